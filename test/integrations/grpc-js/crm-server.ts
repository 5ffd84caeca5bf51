import path from 'node:path'
import * as grpc from '@grpc/grpc-js'
import * as loader from '@grpc/proto-loader'
import type { World } from '../../support/contract.js'

export const PROTO = path.join(import.meta.dirname, 'crm.proto')

export interface CrmServer extends World {
  readonly address: string
  /** Every message of every call that reached the server: method and name. */
  readonly log: string[]
  /** Metadata of each call. */
  readonly metadata: Record<string, unknown>[]
}

/** A real gRPC server that keeps what reaches it. */
export async function startCrmServer(): Promise<CrmServer> {
  const log: string[] = []
  const metadata: Record<string, unknown>[] = []
  const root = grpc.loadPackageDefinition(loader.loadSync(PROTO)) as unknown as {
    crm: { v1: { Contacts: grpc.ServiceClientConstructor } }
  }
  const keep = (method: string, call: { metadata: grpc.Metadata }, name: string) => {
    log.push(`${method} ${name}`)
    metadata.push(call.metadata.getMap())
  }
  // biome-ignore lint/suspicious/noExplicitAny: handlers of a definition loaded at run time
  type Call = any
  const server = new grpc.Server()
  server.addService(root.crm.v1.Contacts.service, {
    Create(call: Call, callback: Call) {
      keep('Create', call, call.request.name)
      callback(null, { id: 'live', name: call.request.name })
    },
    Look(call: Call, callback: Call) {
      metadata.push(call.metadata.getMap())
      callback(null, { id: 'live', name: call.request.name })
    },
    SearchAndPurge(call: Call) {
      keep('SearchAndPurge', call, call.request.name)
      call.end()
    },
    Watch(call: Call) {
      for (const name of ['a', 'b', 'c']) call.write({ name })
      call.end()
    },
    Upload(call: Call, callback: Call) {
      call.on('data', (message: Call) => keep('Upload', call, message.name))
      call.on('end', () => callback(null, { id: 'live' }))
    },
    Chat(call: Call) {
      call.on('data', (message: Call) => keep('Chat', call, message.name))
      call.on('end', () => call.end())
    },
  })
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    ),
  )
  const address = `127.0.0.1:${port}`
  return {
    address,
    log,
    metadata,
    env: { ADDRESS: address, PROTO },
    state: async () => [...log],
    async stop() {
      server.forceShutdown()
    },
  }
}

/** Source that makes `client`, and promises of its four kinds of calls. */
export const CLIENT = `
  const { default: unwrapped, ...named } = await load('@grpc/grpc-js')
  const grpc = unwrapped ?? named
  const loaderModule = await load('@grpc/proto-loader')
  const { loadSync } = loaderModule.default ?? loaderModule
  const { Contacts } = grpc.loadPackageDefinition(loadSync(env.PROTO, { defaults: true })).crm.v1
  const clients = []
  const connect = () => { const made = new Contacts(env.ADDRESS, grpc.credentials.createInsecure()); clients.push(made); return made }
  const client = connect()
  const unary = (method, request, on = client) => new Promise((resolve, reject) => on[method](request, (error, answer) => error ? reject(error) : resolve(answer)))
  const serverStream = (method, request, on = client) => new Promise((resolve, reject) => { const all = []; on[method](request).on('data', (m) => all.push(m.name)).on('error', reject).on('end', () => resolve(all)) })
  const clientStream = (names, on = client) => new Promise((resolve, reject) => { const call = on.Upload((error, answer) => error ? reject(error) : resolve(answer)); for (const name of names) call.write({ name }); call.end() })
  const bidi = (names, on = client) => new Promise((resolve, reject) => { const all = []; const call = on.Chat().on('data', (m) => all.push(m.name)).on('error', reject).on('end', () => resolve(all)); for (const name of names) call.write({ name }); call.end() })
`
