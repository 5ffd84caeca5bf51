import { describeContract } from '../../support/contract.js'
import { CLIENT, startCrmServer } from './crm-server.js'

describeContract({
  name: '@grpc/grpc-js',
  system: 'grpc',
  startWorld: startCrmServer,
  setup: CLIENT,
  reads: {
    unary: `unary('Look', { name: 'x' })`,
    'three at once': `Promise.all(['a', 'b', 'c'].map((name) => unary('Look', { name })))`,
    'server stream': `serverStream('Watch', {})`,
  },
  writes: {
    unary: `unary('Create', { name: 'x', seen: 3 })`,
    'a client of the run': `unary('Create', { name: 'x' }, connect())`,
    'original name': `new Promise((resolve, reject) => client.create({ name: 'o' }, (error, answer) => error ? reject(error) : resolve(answer)))`,
    'with metadata and options': `new Promise((resolve, reject) => { const m = new grpc.Metadata(); m.set('a', 'b'); client.Create({ name: 'm' }, m, { deadline: Date.now() + 20000 }, (error, answer) => error ? reject(error) : resolve(answer)) })`,
    'through an interceptor': `new Promise((resolve, reject) => client.Create({ name: 'i' }, { interceptors: [(options, next) => new grpc.InterceptingCall(next(options))] }, (error, answer) => error ? reject(error) : resolve(answer)))`,
    'server stream': `serverStream('SearchAndPurge', { name: 'x' })`,
    'client stream': `clientStream(['a', 'b'])`,
    bidi: `bidi(['a', 'b'])`,
    'generic client': `new Promise((resolve, reject) => new grpc.Client(env.ADDRESS, grpc.credentials.createInsecure()).makeUnaryRequest('/crm.v1.Contacts/Create', (m) => Buffer.from(m), (b) => ({ bytes: typeof b.length }), '', (error, answer) => error ? reject(error) : resolve(answer)))`,
  },
  teardown: `for (const each of clients) each.close()`,
})
