import { Lru } from '../../sql/lru.js'
import { quoteText } from '../../sql/tree.js'
import type { PgClient } from './driver.js'

/**
 * What the catalog said, for a few seconds. PostgreSQL has no one counter that
 * tells that a definition has changed, so everything here is a guess that the
 * server checks when it is used: names by the {@link assertion} in the same
 * round trip, columns and types by describing the statement again. What no
 * check sees (a default, a CHECK, an index, changed by another process) is at
 * most {@link FRESH_MILLISECONDS} old. DDL of this process is seen by its command tags.
 */
const FRESH_MILLISECONDS = 5_000
const MAX_ENTRIES = 1_000
const MAX_KEY_CHARACTERS = 4 * 1024 * 1024

interface Entry {
  readonly value: unknown
  readonly at: number
}

let entries = new Lru<Entry>(MAX_ENTRIES, MAX_KEY_CHARACTERS)

let used = false

/** True once anything has been remembered: from then on definitions that live code changes matter. */
export function remembersAnything(): boolean {
  return used
}

/** Where an entry belongs: the database, and how names are resolved there. */
export function knownKey({ host, port, database }: PgClient, place: string, ...what: readonly unknown[]): string {
  return JSON.stringify([host, port, database, place, ...what])
}

export function known<T>(key: string): T | undefined {
  const entry = entries.get(key)
  return entry !== undefined && Date.now() - entry.at < FRESH_MILLISECONDS ? (entry.value as T) : undefined
}

export function remember(key: string, value: unknown): void {
  used = true
  entries.set(key, { value, at: Date.now() })
}

/** Something was not as remembered, or definitions have changed. */
export function forgetKnown(): void {
  if (entries.size > 0) entries = new Lru(MAX_ENTRIES, MAX_KEY_CHARACTERS)
}

/** The query whose cells are the place of a connection, and the process that serves it. */
export const PLACE_QUERY = `SELECT current_schemas(true)::text || ' ' || current_user, pg_backend_pid()`

/** A name may mean a temporary table, which only this connection sees: nothing is remembered then. */
export function isShared(place: string): boolean {
  return !place.includes('pg_temp')
}

/** Fails, and with it everything up to the Sync, when names mean something else than they did. */
export function assertion(place: string): string {
  return `SELECT 1 / (${quoteText(place)} = current_schemas(true)::text || ' ' || current_user)::int`
}

const DEFINES = /^(CREATE|ALTER|DROP|IMPORT|GRANT|REVOKE|REASSIGN|DO$|CALL$)/

/** Hears of a statement that was executed on a connection and not undone. */
export function noteTag(state: { defining: boolean }, tag: string): void {
  if (entries.size === 0) return
  if (DEFINES.test(tag)) {
    state.defining = true
    forgetKnown()
  } else if (state.defining && (tag === 'COMMIT' || tag === 'ROLLBACK')) {
    // Until now other connections saw, and remembered, the old definition.
    state.defining = false
    forgetKnown()
  }
}
