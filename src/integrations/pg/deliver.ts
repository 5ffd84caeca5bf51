import { createRequire } from 'node:module'
import type { Violation } from '../../sql/violations.js'
import type { PgConnection, PgQuery, WireResult } from './driver.js'

/** The library's own helpers, from the copy that was patched. */
export interface PgLibrary {
  /** A JavaScript value in the form the driver sends it. */
  prepareValue(value: unknown): unknown
  DatabaseError: new (message: string, length: number, name: string) => Error
}

export function loadLibrary(file: string): PgLibrary {
  const require = createRequire(file)
  const { prepareValue } = require('./utils') as { prepareValue: PgLibrary['prepareValue'] }
  const { DatabaseError } = require('pg-protocol') as { DatabaseError: PgLibrary['DatabaseError'] }
  if (typeof prepareValue !== 'function' || typeof DatabaseError !== 'function') {
    throw new TypeError('pg/lib/utils or pg-protocol has changed')
  }
  return { prepareValue, DatabaseError }
}

/** An error the application cannot tell from the server's. */
export function nativeError(library: PgLibrary, violation: Violation): Error {
  const { message, ...fields } = violation
  return Object.assign(new library.DatabaseError(message, message.length, 'error'), { severity: 'ERROR', ...fields })
}

const SENDING = new Set(['sync', 'flush', 'close', 'execute', 'bind', 'parse', 'describe', 'query', 'sendCopyFail'])

/** A connection that sends nothing: pg's Query syncs in some of its handlers. */
function inert(connection: PgConnection): PgConnection {
  return new Proxy(connection, {
    get(target, key) {
      if (SENDING.has(String(key))) return () => undefined
      const value = Reflect.get(target, key) as unknown
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
}

/** Feeds a simulated result to pg's own Query, so that parsers, row mode and events work as ever. */
export function deliver(query: PgQuery, connection: PgConnection, result: WireResult): void {
  if (query.answer !== undefined) {
    query.answer(result)
    return
  }
  if (result.fields !== undefined) {
    query.handleRowDescription(result.fields)
    for (const fields of result.rows ?? []) query.handleDataRow({ fields: [...fields] })
  }
  query.handleCommandComplete({ name: 'commandComplete', text: result.tag }, inert(connection))
}
