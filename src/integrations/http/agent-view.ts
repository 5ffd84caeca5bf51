import type { Agent, ClientRequest } from 'node:http'

/** The options an agent is handed with a request, as far as we read them. */
export interface AgentOptions {
  readonly port?: number | string
  readonly servername?: string
  readonly socketPath?: string
  readonly createConnection?: (options: object, callback: (error: Error | null, socket?: unknown) => void) => unknown
  readonly [key: string]: unknown
}

/** Node internals of a ClientRequest that the last step of its constructor leaves to the agent. */
export interface RequestInternals extends ClientRequest {
  agent: Agent | undefined
  _last: boolean
  onSocket(socket: unknown, error?: Error | null): void
  readonly timeout?: number
  readonly _header?: string | null
  /** Writes the head, from what method, path and headers are by then. */
  _implicitHeader(): void
}

type Route = (request: RequestInternals, options: AgentOptions, proceed: () => void) => void

interface AgentLike {
  addRequest(request: RequestInternals, options: AgentOptions, port?: unknown, localAddress?: unknown): void
  readonly options?: { readonly timeout?: number }
}

/**
 * The `ClientRequest` constructor normalises every form of arguments and, as
 * its last step, calls `agent.addRequest(this, options)`. So arguments are
 * never parsed here: the request gets a view of its agent on which only
 * `addRequest` is ours, and every other read falls through.
 */
export function injectView(args: unknown[], defaultAgent: () => AgentLike, route: Route): unknown[] {
  const at = typeof args[0] === 'string' || isUrl(args[0]) ? 1 : 0
  const given = args[at]
  if (at === 0 && (typeof given !== 'object' || given === null)) return args
  const options = typeof given === 'object' && given !== null ? (given as Record<string, unknown>) : undefined
  const agent = pickAgent(options, defaultAgent)
  if (agent === 'invalid') return args
  const view = agent === undefined ? bareView(route) : viewOf(agent, route)
  const callback = typeof given === 'function' ? given : args[at + 1]
  return [...args.slice(0, at), { ...options, agent: view }, callback]
}

function isUrl(value: unknown): boolean {
  const url = value as { href?: unknown; protocol?: unknown; auth?: unknown; path?: unknown } | undefined
  return Boolean(url?.href && url.protocol && url.auth === undefined && url.path === undefined)
}

/** Mirrors the constructor: `agent: false` is a new agent of the default's class, none with createConnection is none. */
function pickAgent(
  options: Record<string, unknown> | undefined,
  defaultAgent: () => AgentLike,
): AgentLike | undefined | 'invalid' {
  const agent = options?.['agent']
  const base = (options?.['_defaultAgent'] as AgentLike | undefined) ?? defaultAgent()
  if (agent === false) return new (base.constructor as new () => AgentLike)()
  if (agent === null || agent === undefined)
    return typeof options?.['createConnection'] === 'function' ? undefined : base
  // Node throws its own ERR_INVALID_ARG_TYPE for this.
  return typeof (agent as AgentLike).addRequest === 'function' ? (agent as AgentLike) : 'invalid'
}

function viewOf(agent: AgentLike, route: Route): AgentLike {
  return Object.create(agent, {
    addRequest: {
      value(request: RequestInternals, options: AgentOptions, port: unknown, localAddress: unknown) {
        // Restored before anyone can look.
        request.agent = agent as unknown as Agent
        route(request, options, () => agent.addRequest(request, options, port, localAddress))
      },
    },
  }) as AgentLike
}

/** No agent and createConnection: a bare object reads like "no agent" everywhere in the constructor. */
function bareView(route: Route): AgentLike {
  return {
    addRequest(request, options) {
      request.agent = undefined
      request._last = true
      request.shouldKeepAlive = false
      route(request, options, () => connect(request, options))
    },
  }
}

/** The constructor's own tail for a request without an agent. */
function connect(request: RequestInternals, options: AgentOptions): void {
  let done = false
  const created = (error: Error | null, socket?: unknown) => {
    if (done) return
    done = true
    if (error !== null) process.nextTick(() => request.emit('error', error))
    else request.onSocket(socket)
  }
  const copy: Record<string, unknown> = { ...options }
  if (options.socketPath !== undefined) copy['path'] = options.socketPath
  else delete copy['path']
  try {
    const socket = options.createConnection?.(copy, created)
    if (socket) created(null, socket)
  } catch (error) {
    created(error as Error)
  }
}
