import type { ClientState } from './client-state.js'
import type { PgClient, PgConnection } from './driver.js'
import type { Answer, Fence, Sink, Step } from './round.js'

/** What replaces parts of the application's query on its way. */
export interface ForwardOptions {
  /** Replaces the text, and with it the parameters and their types. */
  readonly text?: string
  readonly values?: readonly unknown[]
  readonly types?: readonly number[]
  readonly sink?: Sink
  readonly retag?: (tag: string) => string
  /** Described before it, in the same round, where {@link Dialogue.checks} says so. */
  readonly checks?: readonly Step[]
  /** What the application copies in may reach the server. */
  readonly copyIn?: boolean
}

/** One call's hold of a connection, over as many round trips as it takes; the driver's queue waits meanwhile. */
export interface Dialogue {
  readonly client: PgClient
  readonly connection: PgConnection
  readonly state: ClientState
  /** `I`, `T` or `E`, as of the last answer. */
  readonly status: string
  /** The error that said that the connection is lost. */
  readonly lost: Error | undefined
  /** Settles when the connection is lost. */
  readonly gone: Promise<void>
  /** Other statements can be described before one in the same round, so that it may rely on what is remembered of them. */
  readonly checks: boolean
  hold(): void
  release(): void
  /** Sends one statement of ours within its fence. */
  run(step: Step, fence?: Fence, sink?: Sink, checks?: readonly Step[]): Promise<Answer>
  /** Sends the application's query within the fence, and lets it hear the answer. */
  forward(fence: Fence, options?: ForwardOptions): Promise<Answer>
  /** Sends a constant of ours. */
  simple(text: string): Promise<Answer>
}
