import { EXIT_USAGE } from '../audit/exit-code.js'
import { DryTraceError } from '../errors.js'
import { VERSION } from '../version.js'
import { type Command, closest, UsageError } from './command.js'
import { doctorCommand } from './doctor.js'
import { policyCommand } from './policy.js'
import { reportCommand } from './report.js'
import { runCommand } from './run.js'

const COMMANDS: readonly Command[] = [runCommand, reportCommand, doctorCommand, policyCommand]

const HELP = `drytrace ${VERSION}: dry-run for running services, proved by traces

Usage: drytrace <command> [options]

Commands:
${COMMANDS.map(({ name, summary }) => `  ${name.padEnd(8)}${summary}`).join('\n')}

Options:
  --help      this text; after a command, the help of the command
  --version   the version

Environment:
  DRY_RUN=1              makes a whole process dry, once drytrace/register is loaded
  DRYTRACE_POLICY        policy file
  DRYTRACE_SECRET        key of signed flags, or file:/path/to/it
  DRYTRACE_JOURNAL       journal directory
  DRYTRACE_JOURNAL_SYNC  none, batch or each: when the journal is forced to disk
`

/** Runs one command line and returns its exit code. */
export async function dispatch(argv: readonly string[]): Promise<number> {
  const [name, ...args] = argv
  if (name === undefined) {
    process.stderr.write(HELP)
    return EXIT_USAGE
  }
  if (name === '--help' || name === '-h' || (name === 'help' && args.length === 0)) {
    process.stdout.write(HELP)
    return 0
  }
  if (name === '--version' || name === '-v') {
    process.stdout.write(`${VERSION}\n`)
    return 0
  }
  const wanted = name === 'help' ? (args[0] ?? '') : name
  const command = COMMANDS.find((candidate) => candidate.name === wanted)
  if (command === undefined) return refuse(unknownCommand(wanted))
  if (name === 'help' || asksForHelp(args)) {
    process.stdout.write(command.help)
    return 0
  }
  try {
    return await command.run(args)
  } catch (error) {
    if (error instanceof UsageError) return refuse(`${error.message}\nSee: drytrace ${command.name} --help`)
    if (error instanceof DryTraceError && error.code === 'DRY_POLICY_INVALID') return refuse(error.message)
    throw error
  }
}

/** `--help` behind `--` is the program's, not ours. */
function asksForHelp(args: readonly string[]): boolean {
  const end = args.indexOf('--')
  const own = end === -1 ? args : args.slice(0, end)
  return own.includes('--help') || own.includes('-h')
}

function unknownCommand(name: string): string {
  const names = COMMANDS.map((command) => command.name)
  if (name.startsWith('-'))
    return `unknown option ${name}; options follow a command: ${names.join(', ')}\nSee: drytrace --help`
  const meant = closest(name, names)
  const hint = meant === undefined ? `the commands are ${names.join(', ')}` : `did you mean ${meant}?`
  return `unknown command ${JSON.stringify(name)}; ${hint}\nSee: drytrace --help`
}

function refuse(message: string): number {
  process.stderr.write(`drytrace: ${message}\n`)
  return EXIT_USAGE
}
