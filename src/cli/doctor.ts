import { styleFor, widthFor } from '../audit/render/style.js'
import { wrap } from '../audit/render/text.js'
import { type Command, readArguments, UsageError } from './command.js'
import type { Finding } from './doctor-checks.js'

const help = `Usage: drytrace doctor

Looks at what a dry run here would stand on: Node, the copies of drytrace and
@opentelemetry/api, the journal directory, the policy, the secret, and the
client libraries installed below the working directory.

Exit codes: 0 nothing fails, 1 something does, 2 usage.
`

export const doctorCommand: Command = {
  name: 'doctor',
  summary: 'check Node, policy, journal and the client libraries installed here',
  help,
  async run(args) {
    if (args.includes('--')) throw new UsageError('looking into a program is not in this version: drytrace doctor')
    const { positionals } = readArguments(args, {})
    if (positionals.length > 0) throw new UsageError('doctor takes no arguments')

    // Only now: it loads every integration, which the other commands need not wait for.
    const { inspectSetup } = await import('./doctor-checks.js')
    const findings = await inspectSetup(process.cwd(), process.env)
    const names = Math.max(...findings.map(({ name }) => name.length))
    for (const finding of findings) process.stdout.write(line(finding, names))
    const failing = findings.filter(({ level }) => level === 'fail').length
    const warning = findings.filter(({ level }) => level === 'warn').length
    process.stdout.write(`\n${failing} failing, ${warning} to look at, ${findings.length - failing - warning} ok\n`)
    return failing > 0 ? 1 : 0
  },
}

function line({ level, name, message, fix }: Finding, names: number): string {
  const { green, yellow, red } = styleFor(process.stdout)
  const paint = { ok: green, warn: yellow, fail: red }[level]
  const indent = ' '.repeat(6 + names + 2)
  // A pipe gets a line a finding, for grep.
  const room = process.stdout.isTTY ? Math.max(widthFor(process.stdout, process.env) - indent.length, 30) : Infinity
  const block = (text: string) =>
    text
      .split('\n')
      .flatMap((part) => wrap(part, room))
      .join(`\n${indent}`)
  const remedy = fix === undefined ? '' : `${indent}${block(`fix: ${fix}`)}\n`
  return `${paint(level.padEnd(4))}  ${name.padEnd(names)}  ${block(message)}\n${remedy}`
}
