import type { Effect } from '../guard/effect.js'
import type { Guard } from '../guard/guard.js'

/** Local bindings of a patched file: `module.exports` of a CommonJS file, the named classes of an ES module. */
// biome-ignore lint/suspicious/noExplicitAny: the patch edge; a library's internals have no types we could honour
export type Bindings = any

/** Where a client library is met. */
export interface Target {
  /**
   * A builtin (`node:http`) or a file of a package, `<package>/<path>`, for
   * example `pg/lib/client.js`. Every copy in the tree is met.
   */
  readonly file: string
  /**
   * Names of the local bindings an ES module hands to `patch`. Leave out for
   * CommonJS files, whose `patch` gets `module.exports`.
   */
  readonly bindings?: readonly string[]
  /**
   * ES modules only: the local binding that is the default export, when `patch`
   * returns a replacement for it. It must be a function declaration or `let`.
   */
  readonly defaultExport?: string
  /**
   * CommonJS only: `patch` works on a copy that was loaded before us, because
   * it replaces what is looked up at each call. Without it such a copy is too
   * late and closes the gate.
   */
  readonly late?: boolean
  /**
   * Wraps what it is given, in place. A CommonJS target may return a
   * replacement for `module.exports`, and an ES module one for its `defaultExport`. Runs before any other hook sees the
   * exports. Throwing marks the integration as failed and closes the gate.
   */
  patch(bindings: Bindings, guard: Guard, copy: Copy): unknown
}

/** The copy of the library a file belongs to. */
export interface Copy {
  readonly file: string
  readonly version: string | null
}

/**
 * The one contract every client library is met through. `classify` and
 * `simulate` are pure: given the call, they neither read the context nor send
 * anything, so they can be tested without the library's server.
 */
export interface Integration<Call = unknown, Result = unknown> {
  /** The library's own name: `pg`, `nodemailer`, `node:http`. */
  readonly name: string
  /** The value of `dry_run.system` on its effects. */
  readonly system: string
  /** Semver range of the versions tested; a copy outside it closes the gate. `*` for builtins. */
  readonly versions: string
  readonly targets: readonly Target[]
  /** What the call would do. Throwing blocks the call, outcome `failed`. */
  classify(call: Call): Effect
  /** What the caller gets instead, in the library's own shape. */
  simulate(call: Call, effect: Effect): Result
  /** For the docs table: what is met and what is not, one sentence. */
  readonly docs: string
}
