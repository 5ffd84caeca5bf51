// One write call of every HTTP client to a host name, each between two marks that a system call tracer sees.
// MODE=dry runs them in a dry run, MODE=live as they are. ENDPOINT is localhost:<port>.
import { once } from 'node:events'
import { closeSync, openSync } from 'node:fs'
import http from 'node:http'
import http2 from 'node:http2'
import https from 'node:https'
import net from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import tls from 'node:tls'
import { credentials, makeGenericClientConstructor } from '@grpc/grpc-js'
import undici from 'undici'
import ws from 'ws'

const endpoint = process.env.ENDPOINT
const [hostname, port] = endpoint.split(':')

/** A file that does not exist: nothing but the trace notices. */
function mark(text) {
  try {
    closeSync(openSync(`/drytrace-mark/${text}`))
  } catch {}
}

// A session is connected for its reads too, in a dry run as well: one that is there already sends nothing for a write.
const session = process.env.MODE === 'dry' ? http2.connect(`http://${endpoint}`) : undefined
if (session !== undefined) await once(session, 'remoteSettings')

const answered = (request) =>
  new Promise((resolve, reject) => {
    request.on('response', (response) => {
      if (typeof response.resume === 'function') response.resume().on('end', resolve)
      else request.resume().on('end', resolve)
    })
    request.on('error', reject).on('close', resolve)
    request.end('{}')
  })
const closed = (socket, send) =>
  new Promise((resolve) => {
    socket.addEventListener('open', () => {
      send(socket)
      socket.close()
    })
    socket.addEventListener('error', resolve)
    socket.addEventListener('close', resolve)
  })
const ended = (socket) =>
  new Promise((resolve) =>
    socket
      .on('error', () => {})
      .on('close', resolve)
      .end('{}'),
  )
const identity = (value) => value
const Crm = makeGenericClientConstructor({
  save: {
    path: '/crm.Crm/Save',
    requestStream: false,
    responseStream: false,
    requestSerialize: identity,
    requestDeserialize: identity,
    responseSerialize: identity,
    responseDeserialize: identity,
  },
})

const clients = {
  http: () => answered(http.request(`http://${endpoint}/http`, { method: 'POST' })),
  'http, hostname': () => answered(http.request({ hostname, port, path: '/hostname', method: 'POST' })),
  'http, own agent': () =>
    answered(http.request(`http://${endpoint}/agent`, { method: 'POST', agent: new http.Agent({ keepAlive: true }) })),
  https: () => answered(https.request(`https://${endpoint}/https`, { method: 'POST' })),
  fetch: async () => (await fetch(`http://${endpoint}/fetch`, { method: 'POST', body: '{}' })).arrayBuffer(),
  'fetch, https': async () => (await fetch(`https://${endpoint}/fetch`, { method: 'POST', body: '{}' })).arrayBuffer(),
  undici: async () =>
    (await undici.request(`http://${endpoint}/undici`, { method: 'POST', body: '{}' })).body.arrayBuffer(),
  http2: () => answered((session ?? http2.connect(`http://${endpoint}`)).request({ ':method': 'POST' })),
  gRPC: () =>
    new Promise((resolve) => {
      crm.save(Buffer.alloc(0), { deadline: Date.now() + 2_000 }, resolve)
    }),
  WebSocket: () => closed(new WebSocket(`ws://${endpoint}/websocket`), (socket) => socket.send('x')),
  ws: () => closed(new ws(`ws://${endpoint}/ws`), (socket) => socket.send('x')),
  'a client of no library': () => ended(net.connect(Number(port), hostname)),
  'a TLS client of no library': () => ended(tls.connect(Number(port), hostname)),
}

async function attempt(call) {
  try {
    await Promise.race([call(), sleep(5_000)])
  } catch (error) {
    return error
  }
  return undefined
}

let crm
async function all() {
  // Making a client of gRPC makes a resolver, which reads how names are looked up here, and looks up none.
  crm = new Crm(endpoint, credentials.createInsecure())
  for (const [name, call] of Object.entries(clients)) {
    mark(`begin ${name}`)
    await attempt(call)
    // What the call has left to the thread pool or to the next turns of the loop belongs to it.
    await sleep(50)
    mark(`end ${name}`)
  }
}

// Loaded, and used once, before anything is looked at: Node loads the copy of undici that is its own when asked for it.
void globalThis.WebSocket
await sleep(100)
if (process.env.MODE === 'dry') {
  const { dryRun } = await import(process.env.DRYTRACE_INDEX)
  await dryRun({ id: 'egress' }, all)
} else await all()
console.log(`CLIENTS ${JSON.stringify(Object.keys(clients))}`)
process.exit(0)
