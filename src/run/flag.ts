import { BAGGAGE_FLAG, BAGGAGE_RUN_ID, BAGGAGE_TOKEN, HEADER_FLAG, TRACESTATE_KEY } from '../semconv.js'
import { isRunId } from './run.js'
import { claimedRunId } from './token.js'

/** What a flag value asks for. Anything we cannot read is `malformed`, which is dry: never live by accident. */
export type FlagMeaning = 'dry' | 'live' | 'malformed'

export function parseFlagValue(value: string): FlagMeaning {
  switch (value.trim().toLowerCase()) {
    case 'true':
    case '1':
      return 'dry'
    case 'false':
    case '0':
      return 'live'
    default:
      return 'malformed'
  }
}

/** What the carriers of one message or request say together. */
export interface Flag {
  /** Absent when no carrier brought a readable run id. */
  readonly runId: string | undefined
  readonly token: string | undefined
  readonly carriers: readonly string[]
  /** Carriers disagree, or one is malformed. */
  readonly conflict: boolean
}

/** Raw header values; a repeated header is given as all its values. */
export interface RawCarriers {
  readonly baggage?: readonly string[]
  readonly tracestate?: readonly string[]
  readonly header?: readonly string[]
}

interface Sighting {
  readonly carrier: string
  readonly meaning: FlagMeaning
  readonly runId?: string
}

/**
 * Reads all three carriers raw, without the size limits and drop rules of the
 * W3C propagators (they lose a late entry of a long baggage). Any one that
 * says dry makes the whole dry; `undefined` means none did.
 */
export function readFlag(raw: RawCarriers): Flag | undefined {
  const seen: Sighting[] = []
  let token: string | undefined

  const members = (raw.baggage ?? []).flatMap((line) => line.split(','))
  const baggage = { flags: [] as string[], ids: [] as string[] }
  for (const member of members) {
    const pair = member.split(';', 1)[0] ?? ''
    const at = pair.indexOf('=')
    const key = (at < 0 ? pair : pair.slice(0, at)).trim()
    const value = at < 0 ? '' : decode(pair.slice(at + 1).trim())
    if (key === BAGGAGE_FLAG) baggage.flags.push(value)
    else if (key === BAGGAGE_RUN_ID) baggage.ids.push(value)
    else if (key === BAGGAGE_TOKEN) token = value
  }
  // An id or a token without its flag has lost it on the way.
  if (baggage.flags.length > 0 || baggage.ids.length > 0 || token !== undefined) {
    const meanings = baggage.flags.map(parseFlagValue)
    const meaning = meanings.length === 0 ? 'malformed' : combine(meanings)
    const badId = baggage.ids.some((id) => !isRunId(id)) || new Set(baggage.ids).size > 1
    const runId = baggage.ids.find(isRunId)
    seen.push({
      carrier: 'baggage',
      meaning: badId && meaning === 'dry' ? 'malformed' : meaning,
      ...(runId === undefined ? {} : { runId }),
    })
  }
  for (const line of raw.tracestate ?? []) {
    for (const member of line.split(',')) {
      const at = member.indexOf('=')
      if (at > 0 && member.slice(0, at).trim() === TRACESTATE_KEY) {
        seen.push({ carrier: 'tracestate', ...parseVersioned(member.slice(at + 1).trim()) })
      }
    }
  }
  for (const value of raw.header ?? []) seen.push({ carrier: 'header', ...parseVersioned(value.trim()) })

  if (!seen.some((sighting) => sighting.meaning !== 'live')) return undefined
  const ids = new Set(seen.flatMap((sighting) => (sighting.runId === undefined ? [] : [sighting.runId])))
  return {
    runId: ids.values().next().value ?? (token === undefined ? undefined : claimedRunId(token)),
    token,
    carriers: [...new Set(seen.filter((s) => s.meaning !== 'live').map((s) => s.carrier))],
    conflict: ids.size > 1 || seen.some((sighting) => sighting.meaning !== 'dry'),
  }
}

function combine(meanings: readonly FlagMeaning[]): FlagMeaning {
  if (meanings.every((meaning) => meaning === 'dry')) return 'dry'
  return meanings.every((meaning) => meaning === 'live') ? 'live' : 'malformed'
}

/** `1:<run-id>` of tracestate and header; `x-dry-run: 1` alone (typed by hand) is dry too. */
function parseVersioned(value: string): { meaning: FlagMeaning; runId?: string } {
  if (value.startsWith('1:') && isRunId(value.slice(2))) return { meaning: 'dry', runId: value.slice(2) }
  if (value.includes(':')) return { meaning: 'malformed' }
  return { meaning: parseFlagValue(value) }
}

function decode(value: string): string {
  try {
    return decodeURIComponent(value)
  } catch {
    return value
  }
}

/** The value of tracestate and header for a run. */
export function versionedFlag(runId: string): string {
  return `1:${runId}`
}

/** The members of our flag, first in the list so that size limits drop others and not us. */
export function baggageMembers(runId: string, token: string | null): string[] {
  const members = [`${BAGGAGE_FLAG}=true`, `${BAGGAGE_RUN_ID}=${runId}`]
  if (token !== null) members.push(`${BAGGAGE_TOKEN}=${encodeURIComponent(token)}`)
  return members
}

/** Names of the headers that can carry the flag. */
export const CARRIER_HEADERS = ['baggage', 'tracestate', HEADER_FLAG] as const
