import { PreviewUnsupported } from './preview-parts.js'
import { quoteText } from './tree.js'

/** Why a preview ended itself: mostly an error the write would fail with. */
export interface ForetoldError {
  /** SQLSTATE; undefined where the write might well succeed, but cannot be worked out. */
  readonly code: string | undefined
  readonly message: string
}

const MARK = 'drytrace'
const MARKED = new RegExp(`${MARK}:([0-9A-Z]{5}):([^]*?):${MARK}`)
const NO_ANSWER = 'XXXXX'

/**
 * An expression of the type `type` that never has a value: reaching it ends the
 * preview with this error. `concat` is not immutable, so the planner does not
 * reach it by itself.
 */
export function failing(code: string, message: string, type: string): string {
  return failingWith(code, quoteText(message), type)
}

/** The same with an expression for the message. */
export function failingWith(code: string, message: string, type: string): string {
  const text = `concat(${quoteText(`${MARK}:${code}:`)}, ${message}, ${quoteText(`:${MARK}`)})`
  return `CAST(CAST(CAST(${text} AS integer) AS text) AS ${type})`
}

/** The same where the write might well succeed, but its result cannot be worked out. */
export function unanswered(reason: string, type: string): string {
  return failing(NO_ANSWER, reason, type)
}

/** Reads a {@link PreviewUnsupported} with an SQLSTATE, or the server's error of a query with {@link failing} in it. */
export function foretoldBy(error: unknown): ForetoldError | undefined {
  if (error instanceof PreviewUnsupported) {
    return error.sqlState === undefined ? undefined : { code: error.sqlState, message: error.message }
  }
  const [, code, message] = MARKED.exec(error instanceof Error ? error.message : '') ?? []
  if (code === undefined || message === undefined) return undefined
  return { code: code === NO_ANSWER ? undefined : code, message }
}
