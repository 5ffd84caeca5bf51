import module from 'node:module'
import { messageOf } from '../errors.js'
import { processBarrier } from '../guard/barrier.js'
import { shared } from '../run/store.js'

export type Http2 = typeof import('node:http2')

/** @param early false when somebody loaded the module before us and may hold its functions */
type Listener = (http2: Http2, early: boolean) => void

const SPECIFIERS: ReadonlySet<unknown> = new Set(['http2', 'node:http2'])
const listeners: Listener[] = []
let installed = false
let loaded: { readonly http2: Http2; readonly early: boolean } | undefined

/**
 * Calls back when the process loads `node:http2`, before the loader of it sees
 * the exports. Loading it at preload would cost every start-up several
 * milliseconds, and most services never speak HTTP/2. A dry run loads it in any case.
 */
export function whenHttp2Loads(listener: Listener): void {
  listeners.push(listener)
  if (loaded !== undefined) {
    tell(listener, loaded.http2, loaded.early)
    module.syncBuiltinESMExports()
  }
  if (installed) return
  installed = true
  const { getBuiltinModule } = process
  const load = (early = true): void => {
    if (loaded !== undefined) return
    const http2 = Reflect.apply(getBuiltinModule, process, ['node:http2']) as Http2
    loaded = { http2, early }
    for (const each of listeners) tell(each, http2, early)
    module.syncBuiltinESMExports()
  }
  if (isLoaded()) {
    load(false)
    return
  }
  // Asked for builtins too, by require and by import.
  module.registerHooks({
    load(url, context, nextLoad) {
      if (url === 'node:http2') load()
      return nextLoad(url, context)
    },
  })
  // The one way to a builtin that goes by no hook.
  const wrapped = function (this: unknown, ...args: [id: string]) {
    if (SPECIFIERS.has(args[0])) load()
    return Reflect.apply(getBuiltinModule, this, args)
  }
  Object.defineProperties(wrapped, Object.getOwnPropertyDescriptors(getBuiltinModule))
  process.getBuiltinModule = wrapped as typeof process.getBuiltinModule
  shared.startListeners.add(() => load())
}

/** An import of a live service never fails because of us: the gate closes instead. */
function tell(listener: Listener, http2: Http2, early: boolean): void {
  try {
    listener(http2, early)
  } catch (error) {
    processBarrier()?.gap(`http2: ${messageOf(error)}`)
  }
}

function isLoaded(): boolean {
  const { moduleLoadList } = process as { moduleLoadList?: readonly string[] }
  // Without the list, the safe answer.
  return moduleLoadList?.includes('NativeModule http2') ?? true
}
