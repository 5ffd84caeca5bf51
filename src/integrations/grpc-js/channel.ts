import { createRequire } from 'node:module'
import { carryFlag, type HeaderBag } from '../../carriers/outgoing.js'
import type { Decision, Guard, Hook } from '../../guard/guard.js'
import { isTelemetryExport } from '../http/telemetry-export.js'
import type { Copy } from '../integration.js'
import { currentKind, definitionOf } from './client.js'
import { classifyGrpc, endpointOf, type GrpcCall } from './grpc-call.js'
import { type CallListener, type ChannelCall, type Metadata, SimulatedCall } from './simulated-call.js'

interface Channel {
  createCall(path: string, deadline: number | Date, ...rest: unknown[]): ChannelCall
  getConnectivityState(tryToConnect: boolean): unknown
  watchConnectivityState(state: unknown, deadline: unknown, callback: (...args: never[]) => unknown): void
  getTarget(): string
}

type ChannelClass = { new (...args: unknown[]): Channel; readonly prototype: Channel }

/**
 * Every call of every client ends in `createCall` of its channel. A channel is
 * shared by live and dry calls and lives long, so nothing of it ever runs in a
 * dry run: it is made, connected and driven outside, and what a caller hands in
 * runs in the caller's context again. Otherwise a live call that waited for a
 * connection would go on in the context of the dry call that opened it.
 */
export function patchChannel(exports: { ChannelImplementation: ChannelClass }, guard: Guard, copy: Copy): void {
  const Original = exports.ChannelImplementation
  const hook: Hook = { name: 'grpc', version: copy.version }
  const { prototype } = Original
  const { createCall, getConnectivityState, watchConnectivityState } = prototype

  prototype.createCall = function (path, deadline, ...rest) {
    const run = guard.run()
    const create = () => Reflect.apply(createCall, this, [path, deadline, ...rest])
    if (run === undefined) return create()
    // The library's own errors for wrong arguments.
    if (typeof path !== 'string' || !(typeof deadline === 'number' || deadline instanceof Date)) return create()
    const call: GrpcCall = { path, target: this.getTarget(), kind: currentKind(path), definition: definitionOf(path) }
    if (isExport(call)) return outside(guard, guard.root(create), (metadata) => metadata)
    const decision = guard.decide(run, hook, () => classifyGrpc(call))
    let settled: Decision = decision
    if (decision.verdict === 'allow') {
      try {
        guard.record(decision)
        const tell = guard.forwards(endpointOf(call.target).host)
        return outside(guard, guard.root(create), (metadata) => carried(metadata, decision, tell))
      } catch (error) {
        settled = { ...decision, verdict: 'block', error: error as Error }
      }
    }
    return new SimulatedCall({ guard, decision: settled, call, deadline, newMetadata: metadataOf(copy) })
  }
  prototype.getConnectivityState = function (tryToConnect) {
    const get = () => Reflect.apply(getConnectivityState, this, [tryToConnect])
    return guard.run() === undefined ? get() : guard.root(get)
  }
  prototype.watchConnectivityState = function (state, deadline, callback) {
    const watch = (then: unknown) => Reflect.apply(watchConnectivityState, this, [state, deadline, then] as never)
    if (guard.run() === undefined || typeof callback !== 'function') return watch(callback)
    const bound = guard.bind(callback)
    return guard.root(() => watch(bound))
  }
  // Clients and the package's index read the class from here when they need it.
  exports.ChannelImplementation = new Proxy(Original, {
    construct(target, args, newTarget) {
      const construct = () => Reflect.construct(target, args, newTarget) as object
      return guard.run() === undefined ? construct() : guard.root(construct)
    },
  })
}

/** Connections of a channel are decided at its calls. */
export function patchConnector(
  exports: { Http2SubchannelConnector: { prototype: { connect(...args: unknown[]): Promise<unknown> } } },
  guard: Guard,
): void {
  const { prototype } = exports.Http2SubchannelConnector
  const { connect } = prototype
  if (typeof connect !== 'function') throw new Error('@grpc/grpc-js: no Http2SubchannelConnector.prototype.connect')
  prototype.connect = function (...args) {
    const open = () => Reflect.apply(connect, this, args)
    // Outside of every run it is live already; only DRY_RUN=1 reaches there.
    if (guard.run() === undefined) return open()
    return guard.root(() =>
      guard.permit('grpc', async (permit) => {
        try {
          return await open()
        } finally {
          permit.open = false
        }
      }),
    )
  }
}

/** A call driven outside of the run; its listener is the caller's. */
function outside(guard: Guard, call: ChannelCall, prepare: (metadata: Metadata) => Metadata): ChannelCall {
  const inside = (listener: CallListener): CallListener => ({
    onReceiveMetadata: guard.bind((metadata: Metadata) => listener.onReceiveMetadata(metadata)),
    onReceiveMessage: guard.bind((message: Buffer) => listener.onReceiveMessage(message)),
    onReceiveStatus: guard.bind((status) => listener.onReceiveStatus(status)),
  })
  return {
    start(metadata, listener) {
      const own = inside(listener)
      guard.root(() => call.start(prepare(metadata), own))
    },
    sendMessageWithContext(context, message) {
      const { callback } = context
      const own = callback === undefined ? context : { ...context, callback: guard.bind(callback) }
      guard.root(() => call.sendMessageWithContext(own, message))
    },
    startRead: () => guard.root(() => call.startRead()),
    halfClose: () => guard.root(() => call.halfClose()),
    cancelWithStatus: (code, details) => guard.root(() => call.cancelWithStatus(code, details)),
    // Tokens are kept for live calls too: one made up for a dry run would end them.
    setCredentials: (credentials) => call.setCredentials(credentials),
    getPeer: () => call.getPeer(),
    getCallNumber: () => call.getCallNumber(),
    getDeadlineInfo: () => call.getDeadlineInfo(),
    getAuthContext: () => call.getAuthContext(),
  }
}

function carried(metadata: Metadata, decision: Decision, tell: boolean): Metadata {
  const copy = metadata.clone()
  const bag: HeaderBag = {
    get: (name) => {
      const values = copy.get(name)
      return values.length === 0 ? undefined : values.map(String).join(',')
    },
    set: (name, value) => copy.set(name, value),
    remove: (name) => copy.remove(name),
  }
  carryFlag(bag, decision.run, tell)
  return copy
}

function isExport({ path, target }: GrpcCall): boolean {
  const { host, port = 443 } = endpointOf(target)
  return isTelemetryExport({ protocol: 'http:', host, port, method: 'POST', path, upgrade: false })
}

/** Loaded by the copy itself before its channel. */
function metadataOf({ file }: Copy): () => Metadata {
  const { Metadata } = createRequire(file)('./metadata.js') as { Metadata: new () => Metadata }
  return () => new Metadata()
}
