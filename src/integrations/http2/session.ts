import type { ClientHttp2Session } from 'node:http2'
import type { Guard } from '../../guard/guard.js'
import type { Run } from '../../run/run.js'

/**
 * Opens a session in a dry run. It outlives the run, so it is born outside of
 * it: its connection goes out under a permit, and each request is decided on
 * its own. What the caller listens to on the session itself belongs to the
 * caller, as long as the run is going on.
 *
 * @param plumbing the session belongs to a client that is met at its own calls
 */
export function connectInRun(
  guard: Guard,
  run: Run,
  plumbing: boolean,
  args: readonly unknown[],
  open: (args: unknown[]) => ClientHttp2Session,
): ClientHttp2Session {
  const given = plumbing ? [...args] : args.map((argument) => withCaller(guard, run, argument))
  const session = guard.root(() =>
    guard.permit('http2', (permit) => {
      try {
        return open(given)
      } finally {
        permit.open = false
      }
    }),
  )
  if (!plumbing) bindWhileOpen(guard, run, session)
  return session
}

/** The caller's own `createConnection` runs in the run, still under the permit. */
function withCaller(guard: Guard, run: Run, argument: unknown): unknown {
  const { createConnection } = (argument ?? {}) as { createConnection?: unknown }
  if (typeof argument !== 'object' || typeof createConnection !== 'function') return argument
  return {
    ...argument,
    createConnection: (...args: unknown[]) => guard.within(run, () => Reflect.apply(createConnection, argument, args)),
  }
}

function bindWhileOpen(guard: Guard, run: Run, session: ClientHttp2Session): void {
  const { emit } = session
  Object.defineProperty(session, 'emit', {
    configurable: true,
    writable: true,
    value: function (this: unknown, ...args: unknown[]) {
      const fire = () => Reflect.apply(emit, this, args) as boolean
      // A 'close' hours later, whose listener reconnects, is nobody's dry run any more.
      return run.endedAt === undefined ? guard.within(run, fire) : fire()
    },
  })
}
