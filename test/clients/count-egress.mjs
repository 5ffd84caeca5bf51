// Preloaded before anything else: counts connections and name look-ups below every JavaScript layer of Node, and sends
// what does leave to a listener of the test, so that it is noticed and reaches nobody.
import dns from 'node:dns'

const egress = { connects: 0, lookups: 0 }
globalThis.egress = egress
const port = Number(process.env.LISTENER_PORT)
// The binding is not public API; nothing above it sees a connection made by a copied reference.
const { TCP } = process.binding('tcp_wrap')
const { Pipe } = process.binding('pipe_wrap')
for (const name of ['connect', 'connect6']) {
  const connect = TCP.prototype[name]
  TCP.prototype[name] = function (request) {
    egress.connects += 1
    return connect === undefined ? -1 : TCP.prototype.connectTo.call(this, request, '127.0.0.1', port)
  }
  if (name === 'connect') TCP.prototype.connectTo = connect
}
const { connect } = Pipe.prototype
Pipe.prototype.connect = function (...args) {
  egress.connects += 1
  return connect.apply(this, args)
}
dns.lookup = (_, options, callback = options) => {
  egress.lookups += 1
  const all = typeof options === 'object' && options.all === true
  process.nextTick(() => (all ? callback(null, [{ address: '127.0.0.1', family: 4 }]) : callback(null, '127.0.0.1', 4)))
}
