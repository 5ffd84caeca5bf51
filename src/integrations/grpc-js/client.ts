import type { Guard } from '../../guard/guard.js'
import type { CallKind, MethodDefinition } from './grpc-call.js'

/** The method a client is calling, for the channel it calls on. */
interface Current {
  readonly path: string
  readonly kind: CallKind
}

interface ClientMethod {
  readonly path: string
  readonly requestStream: boolean
  readonly responseStream: boolean
}

type AnyFunction = (this: unknown, ...args: unknown[]) => unknown
type ServiceDefinition = Readonly<Record<string, MethodDefinition>>

let current: Current | undefined

/** Kind of the call of this path; a channel used by hand does not tell. */
export function currentKind(path: string): CallKind {
  return current?.path === path ? current.kind : 'unary'
}

/**
 * Every method of every client comes by `getInterceptingCall`, which creates
 * the call on its channel. `Client.prototype` would be too late for generated
 * clients: they hold its methods since the library was loaded.
 */
export function patchInterceptors(exports: { getInterceptingCall: AnyFunction }, guard: Guard): void {
  const original = exports.getInterceptingCall
  if (typeof original !== 'function') throw new Error('@grpc/grpc-js: no getInterceptingCall')
  exports.getInterceptingCall = function getInterceptingCall(...args) {
    if (guard.run() === undefined) return Reflect.apply(original, this, args)
    const outer = current
    const { path, requestStream, responseStream } = args[1] as ClientMethod
    current = { path, kind: kindOf(requestStream, responseStream) }
    try {
      return Reflect.apply(original, this, args)
    } finally {
      current = outer
    }
  }
}

function kindOf(requestStream: boolean, responseStream: boolean): CallKind {
  if (requestStream) return responseStream ? 'bidi' : 'client-stream'
  return responseStream ? 'server-stream' : 'unary'
}

const definitions = new Map<string, MethodDefinition>()

/** What the service definitions that clients were made of say about a method. */
export function definitionOf(path: string): MethodDefinition | undefined {
  return definitions.get(path)
}

/** Keeps the definitions that clients are made of: the only place that says which methods only read. */
export function patchClientFactory(exports: {
  makeClientConstructor: AnyFunction
  loadPackageDefinition: AnyFunction
}): void {
  const { makeClientConstructor, loadPackageDefinition } = exports
  exports.makeClientConstructor = function (...args) {
    keep(args[0])
    return Reflect.apply(makeClientConstructor, this, args)
  }
  exports.loadPackageDefinition = function (...args) {
    for (const service of Object.values((args[0] ?? {}) as object)) keep(service)
    return Reflect.apply(loadPackageDefinition, this, args)
  }
}

function keep(service: unknown): void {
  if (typeof service !== 'object' || service === null) return
  for (const method of Object.values(service as ServiceDefinition)) {
    if (typeof method?.path === 'string' && 'requestSerialize' in method) definitions.set(method.path, method)
  }
}
