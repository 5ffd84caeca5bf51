import { existsSync, readdirSync, statSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { type IntegrityProblem, listJournalFiles, readJournal } from '../../journal/reader.js'
import type { JournalRecord } from '../../journal/record.js'
import type { RunMaterial, SourcedRecord } from '../report.js'
import { RunFacts } from '../run-facts.js'

/** A run found in a journal. */
export interface FoundRun {
  readonly directory: string
  readonly facts: RunFacts
}

/** Why no one run could be picked. */
export interface NotPicked {
  readonly reason: 'none' | 'ambiguous'
  readonly candidates: readonly FoundRun[]
}

/** All runs of the directories, oldest first. One pass, and nothing of a run is held but its counts. */
export function listRuns(directories: readonly string[]): FoundRun[] {
  return directories
    .flatMap((directory) => [...scan(directory).values()].map((facts) => ({ directory, facts })))
    .sort((a, b) => (a.facts.startedAt < b.facts.startedAt ? -1 : a.facts.startedAt > b.facts.startedAt ? 1 : 0))
}

/** The run of that run id or trace id (a beginning that fits only one will do); the newest when nothing is wanted. */
export function pickRun(runs: readonly FoundRun[], wanted?: string): FoundRun | NotPicked {
  if (wanted === undefined) return runs.at(-1) ?? { reason: 'none', candidates: [] }
  const exact = runs.filter(({ facts }) => facts.id === wanted || facts.traceIds.has(wanted))
  const candidates =
    exact.length > 0
      ? exact
      : runs.filter(({ facts }) => [facts.id, ...facts.traceIds].some((id) => id.startsWith(wanted)))
  if (candidates.length === 1) return candidates[0]!
  return { reason: candidates.length === 0 ? 'none' : 'ambiguous', candidates }
}

/** The records of a run, for its report. */
export function readRun({ directory, facts }: FoundRun): RunMaterial {
  const records: SourcedRecord[] = []
  const services = new Map<string, string>()
  for (const item of readJournal(directory)) {
    if (!('record' in item) || !facts.processes.has(item.process)) continue
    const { process, record } = item
    if (record.type === 'process') services.set(process, record.service)
    else if (belongs(record, facts.id)) records.push({ process, service: services.get(process), record })
  }
  return { runId: facts.id, records, integrity: facts.integrity }
}

/** Problems of a whole process belong to each of its runs. */
function belongs(record: JournalRecord, runId: string): boolean {
  if (record.type === 'problem' && record.runId == null) return true
  return 'runId' in record && record.runId === runId
}

/** One pass over a directory: the facts of each run, by id. */
function scan(directory: string): Map<string, RunFacts> {
  const runs = new Map<string, RunFacts>()
  const services = new Map<string, string>()
  const ofNoRun: { readonly process: string; readonly record: JournalRecord }[] = []
  const defects: { readonly process: string; readonly problem: IntegrityProblem }[] = []
  for (const item of readJournal(directory)) {
    const { process } = item
    if ('problem' in item) {
      defects.push({ process, problem: item.problem })
      continue
    }
    const { record } = item
    if (record.type === 'process') {
      services.set(process, record.service)
      continue
    }
    if (record.runId == null) {
      ofNoRun.push({ process, record })
      continue
    }
    let facts = runs.get(record.runId)
    if (facts === undefined) {
      facts = new RunFacts(record.runId)
      runs.set(record.runId, facts)
    }
    facts.add(process, record, services.get(process))
  }
  for (const facts of runs.values()) {
    for (const { process, record } of ofNoRun) if (facts.processes.has(process)) facts.add(process, record)
  }
  for (const defect of defects) for (const facts of affected(defect.process, runs)) facts.integrity.push(defect.problem)
  return runs
}

/**
 * The runs a defective file may have held records of: all it still has records
 * of; if there are none left, all that were under way after the file was begun.
 */
function affected(process: string, runs: ReadonlyMap<string, RunFacts>): RunFacts[] {
  const all = [...runs.values()]
  const seen = all.filter((facts) => facts.processes.has(process))
  if (seen.length > 0) return seen
  const begun = Number(process.slice(process.indexOf('-') + 1))
  return all.filter((facts) => facts.endedAt === null || Date.parse(facts.lastAt) >= begun)
}

/** Where `drytrace run` keeps the journal of each run, below the working directory. */
export const RUNS_DIRECTORY = join('.drytrace', 'runs')
/** Where a service keeps its journal when `DRYTRACE_JOURNAL` is not set, below the working directory. */
export const SERVICE_DIRECTORY = join('.drytrace', 'journal')

export interface Whereabouts {
  readonly cwd: string
  /** `--journal` */
  readonly journal?: string | undefined
  /** `DRYTRACE_JOURNAL` */
  readonly environment?: string | undefined
  /** The run or trace asked for. */
  readonly wanted?: string | undefined
  readonly all?: boolean | undefined
}

/**
 * The directories to look in: the one given, else that of the environment,
 * else the journal of the service, else the newest run of `drytrace run`. A
 * run asked for by id, and `all`, look through every run below the working
 * directory.
 */
export function journalDirectories({ cwd, journal, environment, wanted, all = false }: Whereabouts): string[] {
  const given = journal ?? (environment === '' ? undefined : environment)
  if (given !== undefined) return [resolve(cwd, given)]
  const service = join(cwd, SERVICE_DIRECTORY)
  const services = existsSync(service) ? [service] : []
  const runs = runDirectories(join(cwd, RUNS_DIRECTORY))
  if (all || wanted !== undefined) return [...services, ...runs]
  return services.length > 0 ? services : runs.slice(-1)
}

/** Oldest first, by when the first process of the run began. */
function runDirectories(parent: string): string[] {
  if (!existsSync(parent)) return []
  return readdirSync(parent, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map((entry) => join(parent, entry.name))
    .map((path) => ({ path, begun: listJournalFiles(path)[0]?.startMs ?? statSync(path).mtimeMs }))
    .sort((a, b) => a.begun - b.begun)
    .map(({ path }) => path)
}
