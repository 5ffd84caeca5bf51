import type { Writable } from 'node:stream'
import type { Decision } from '../../guard/guard.js'
import type { Statement } from '../../sql/classify.js'
import type { LibraryQuery } from './library.js'

/** A query of the application on its way, with the context it was made in. */
export interface Caller {
  readonly query: Pick<LibraryQuery, 'string' | 'onlyDescribe'>
  /** Decides in the caller's context. */
  decide(statement: Statement, culprit?: string): Decision
  /** What the library gave the application for a COPY FROM. */
  stream?: Writable
}

/** A statement the library has prepared. Nothing of it is known to the server. */
export interface Prepared {
  readonly text: string
  /** 0 where the library leaves the type to the server; all of them known once it was described. */
  types: readonly number[]
}
