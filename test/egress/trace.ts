import { readFileSync } from 'node:fs'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { DIST, REGISTER, ROOT, runCommand, scratchDirectory } from '../support/child.js'
import { INDEX_URL } from '../support/scratch.js'
import { requireTool } from '../support/tools.js'

/** `-yy` names what a descriptor is: a write to an open connection is told from one to a file. */
const STRACE = ['-f', '-yy', '-s', '256', '-e', 'trace=network,open,openat,write,writev']

/** Everything that makes a socket, connects it or sends on it. */
const EGRESS =
  /\b(?:socket|connect|bind|send|sendto|sendmsg|sendmmsg)\(|\b(?:write|writev)\(\d+<(?:TCP|UDP|RAW|NETLINK|socket)/
/** What getaddrinfo and c-ares read before they ask anybody. */
const LOOKUP = /\bopen(?:at)?\([^"]*"\/etc\/(?:hosts|resolv\.conf|nsswitch\.conf|host\.conf|gai\.conf)"/

/** System calls of one client's write. */
export interface Traced {
  readonly egress: readonly string[]
  readonly lookups: readonly string[]
}

export interface Trace {
  readonly clients: ReadonlyMap<string, Traced>
  readonly journal: string
}

/** Absolute path of strace, or undefined where it is not installed or may not trace. */
export async function findStrace(): Promise<string | undefined> {
  const strace = requireTool('strace')
  if (strace === undefined) return undefined
  const { code, stderr } = await runCommand(strace, ['-f', '-o', '/dev/null', process.execPath, '-e', '0'], {})
  if (code === 0) return strace
  if (process.env['CI'] === 'true') throw new Error(`strace cannot trace here: ${stderr}`)
  return undefined
}

/** Runs program.mjs under strace. */
export async function traceWrites(strace: string, mode: 'dry' | 'live', endpoint: string): Promise<Trace> {
  const directory = scratchDirectory()
  const log = path.join(directory, 'strace.log')
  const journal = path.join(directory, 'journal')
  const program = path.join(ROOT, 'test/egress/program.mjs')
  const preload = `--import=${pathToFileURL(REGISTER)}`
  const { stdout, stderr, code } = await runCommand(
    strace,
    [...STRACE, '-o', log, process.execPath, preload, program],
    {
      env: {
        MODE: mode,
        ENDPOINT: endpoint,
        DRYTRACE_INDEX: INDEX_URL,
        DRYTRACE_JOURNAL: journal,
        DRYTRACE_QUIET: '1',
      },
      timeout: 120_000,
    },
  )
  const names = /CLIENTS (.*)/.exec(stdout)?.[1]
  if (names === undefined) throw new Error(`the program ended with ${code} (${DIST}):\n${stdout}${stderr}`)
  const lines = readFileSync(log, 'utf8').split('\n')
  const clients = (JSON.parse(names) as string[]).map((name) => [name, between(lines, name)] as const)
  return { clients: new Map(clients), journal }
}

function between(lines: readonly string[], name: string): Traced {
  const at = (mark: string) => lines.findIndex((line) => line.includes(`"/drytrace-mark/${mark} ${name}"`))
  const [begin, end] = [at('begin'), at('end')]
  if (begin < 0 || end < begin) throw new Error(`the trace has no marks of ${name}`)
  const found = lines.slice(begin + 1, end)
  return {
    egress: found.filter((line) => EGRESS.test(line)),
    lookups: found.filter((line) => LOOKUP.test(line)),
  }
}
