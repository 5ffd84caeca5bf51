import path from 'node:path'
import { baggageMembers, type Flag, parseFlagValue, readFlag, versionedFlag } from '../run/flag.js'
import type { Run } from '../run/run.js'
import { BAGGAGE_FLAG, BAGGAGE_RUN_ID, BAGGAGE_TOKEN, TRACESTATE_KEY } from '../semconv.js'

/**
 * What the environment asks for: `DRY_RUN`, and the carriers of the
 * OpenTelemetry specification "Environment variables as context propagation
 * carriers" (`BAGGAGE`, `TRACESTATE`).
 */
export function readEnvironment(env: NodeJS.ProcessEnv = process.env): Flag | undefined {
  const flag = readFlag({
    ...(env['BAGGAGE'] === undefined ? {} : { baggage: [env['BAGGAGE']] }),
    ...(env['TRACESTATE'] === undefined ? {} : { tracestate: [env['TRACESTATE']] }),
  })
  const asked = env['DRY_RUN']
  const meaning = asked === undefined || asked === '' ? 'live' : parseFlagValue(asked)
  if (meaning === 'live') return flag === undefined ? undefined : { ...flag, carriers: ['env'] }
  return {
    runId: flag?.runId,
    token: flag?.token,
    carriers: ['env'],
    conflict: meaning === 'malformed' || (flag?.conflict ?? false),
  }
}

/** Where the journal goes when `DRYTRACE_JOURNAL` is not set, below the working directory. */
export const DEFAULT_JOURNAL = '.drytrace/journal'

/** Our own settings, which a child needs even when the application gives it an environment of its own. */
const INHERITED = [
  'DRYTRACE_JOURNAL',
  'DRYTRACE_JOURNAL_SYNC',
  'DRYTRACE_POLICY',
  'DRYTRACE_SECRET',
  'DRYTRACE_QUIET',
] as const

/** The environment of a child process that belongs to the run. */
export function childEnvironment(run: Run, env: NodeJS.ProcessEnv = process.env): NodeJS.ProcessEnv {
  const own = Object.fromEntries(INHERITED.flatMap((name) => (process.env[name] ? [[name, process.env[name]]] : [])))
  return {
    ...own,
    ...env,
    // Absolute: the child's working directory may be another, and its part of the run must be found.
    DRYTRACE_JOURNAL: path.resolve(env['DRYTRACE_JOURNAL'] || process.env['DRYTRACE_JOURNAL'] || DEFAULT_JOURNAL),
    DRY_RUN: '1',
    BAGGAGE: mergeBaggage(run, env['BAGGAGE']),
    TRACESTATE: mergeTracestate(run, env['TRACESTATE']),
  }
}

/** Our members first, so that size limits drop others and not us. */
export function mergeBaggage(run: Run, existing: string | undefined): string {
  return [...baggageMembers(run.id, run.token), ...foreignBaggage(existing)].join(',')
}

export function foreignBaggage(existing: string | undefined): string[] {
  const ours = new Set([BAGGAGE_FLAG, BAGGAGE_RUN_ID, BAGGAGE_TOKEN])
  return (existing ?? '')
    .split(',')
    .map((member) => member.trim())
    .filter((member) => member !== '' && !ours.has((member.split(/[=;]/, 1)[0] ?? '').trim()))
}

/** tracestate holds 32 members: the right-most, oldest ones make room. */
export function mergeTracestate(run: Run, existing: string | undefined): string {
  return [`${TRACESTATE_KEY}=${versionedFlag(run.id)}`, ...foreignTracestate(existing)].slice(0, 32).join(',')
}

export function foreignTracestate(existing: string | undefined): string[] {
  return (existing ?? '')
    .split(',')
    .map((member) => member.trim())
    .filter((member) => member !== '' && !member.startsWith(`${TRACESTATE_KEY}=`))
}
