import { findPolicyFile, loadPolicy } from '../policy/load.js'
import { type Command, readArguments, UsageError } from './command.js'

const help = `Usage: drytrace policy check [FILE]

Checks the policy: FILE, else DRYTRACE_POLICY, else drytrace.config.yaml,
.yml, .json or .mjs in the working directory. A mistake is named with its file,
line and rule.

Exit codes: 0 valid, 2 invalid or not found.
`

export const policyCommand: Command = {
  name: 'policy',
  summary: 'check the policy file',
  help,
  async run(args) {
    const { positionals } = readArguments(args, {})
    const [verb, file, ...rest] = positionals
    if (verb !== 'check') {
      throw new UsageError(
        verb === undefined
          ? 'say what to do: drytrace policy check [FILE]'
          : `unknown ${JSON.stringify(verb)}: drytrace policy check [FILE]`,
      )
    }
    if (rest.length > 0) throw new UsageError('one FILE at a time')
    const found = findPolicyFile(file)
    const policy = loadPolicy(file)
    if (found === undefined) {
      process.stdout.write('no policy file here: reads pass, writes are blocked, nothing is let through\n')
      return 0
    }
    const { mode, audience } = policy.trust
    const trust = [
      mode ?? 'as DRYTRACE_SECRET is set',
      ...(audience.length === 0 ? [] : [`for ${audience.join(', ')}`]),
    ].join(' ')
    process.stdout.write(
      `valid: ${found}\n  sha256   ${policy.hash}\n  rules    ${policy.rules}\n  trust    ${trust}\n  preview  ${policy.preview}\n`,
    )
    return 0
  },
}
