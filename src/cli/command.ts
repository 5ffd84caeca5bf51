import { type ParseArgsConfig, parseArgs } from 'node:util'
import { messageOf } from '../errors.js'

/** One subcommand of the CLI. */
export interface Command {
  readonly name: string
  /** One line, for the list of commands. */
  readonly summary: string
  /** All of `--help`. */
  readonly help: string
  /**
   * @returns the exit code.
   * @throws UsageError
   */
  run(args: readonly string[]): Promise<number>
}

/** The command line cannot be carried out as it stands. The message says what to type instead. Exit code 2. */
export class UsageError extends Error {
  override readonly name = 'UsageError'
}

type Options = NonNullable<ParseArgsConfig['options']>

/**
 * The options and the other arguments of a command line.
 *
 * @param later options of later versions: named in the error, so that nobody searches for a typing mistake.
 * @throws UsageError
 */
export function readArguments<const T extends Options>(
  args: readonly string[],
  options: T,
  later: readonly string[] = [],
) {
  for (const option of later) {
    if (args.some((arg) => arg === `--${option}` || arg.startsWith(`--${option}=`))) {
      throw new UsageError(`--${option} is not in this version`)
    }
  }
  try {
    return parseArgs({ args: [...args], options, allowPositionals: true, strict: true })
  } catch (error) {
    // Node's message tells how to pass an argument that begins with a dash, which is never the mistake made here.
    const [first = ''] = messageOf(error).split(/\. | To specify/)
    const known = Object.keys(options).map((name) => `--${name}`)
    throw new UsageError(`${first}; the options are ${known.join(', ')}`)
  }
}

/** The one of `names` that was probably meant. */
export function closest(word: string, names: readonly string[]): string | undefined {
  return names.find((name) => distance(word, name) <= Math.min(2, name.length - 2))
}

/** Letters to add, drop, change or swap to get from one word to the other. */
function distance(a: string, b: string): number {
  const rows = Array.from({ length: a.length + 1 }, (_, i) =>
    Array.from({ length: b.length + 1 }, (_, j) => (i === 0 ? j : j === 0 ? i : 0)),
  )
  for (let i = 1; i <= a.length; i += 1) {
    for (let j = 1; j <= b.length; j += 1) {
      const cost = a[i - 1] === b[j - 1] ? 0 : 1
      let best = Math.min(rows[i - 1]![j]! + 1, rows[i]![j - 1]! + 1, rows[i - 1]![j - 1]! + cost)
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]
      if (swapped) best = Math.min(best, rows[i - 2]![j - 2]! + 1)
      rows[i]![j] = best
    }
  }
  return rows[a.length]![b.length]!
}
