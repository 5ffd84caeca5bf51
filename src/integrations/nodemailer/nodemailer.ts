import type { Guard, Hook } from '../../guard/guard.js'
import type { Bindings, Copy, Integration, Target } from '../integration.js'
import type { Mailer, SendCallback, Transport } from './library.js'
import { classifySend, classifyVerify, type SendCall } from './mail-effect.js'
import { type SentCall, simulateSend } from './simulate.js'
import { standIn } from './stand-in.js'

const NAME = 'nodemailer'

/**
 * `Mail.prototype.sendMail` is the one public call that sends. Versions before
 * 10 are one CommonJS package; from 10 on the CommonJS and the ES module copy
 * have classes of their own, and a process can hold both.
 */
export const nodemailerIntegration: Integration<SendCall | SentCall, object> = {
  name: NAME,
  system: 'smtp',
  versions: '>=6 <11',
  targets: [
    ...layouts('mailer', 'Mail', patchMailer),
    ...layouts('smtp-transport', 'SMTPTransport', patchVerify),
    ...layouts('smtp-pool', 'SMTPPool', patchVerify),
  ],
  classify: classifySend,
  simulate(call) {
    if (!('compiled' in call)) throw new TypeError('a mail is simulated from its compiled message')
    return simulateSend(call)
  },
  docs:
    'Mail.sendMail on SMTP, pooled SMTP, SES, sendmail and custom transports; stream and JSON transports pass (nothing ' +
    'is sent). An SMTPConnection used directly is left to the fence.',
}

function layouts(
  folder: string,
  className: string,
  patch: (target: Bindings, guard: Guard, copy: Copy) => void,
): Target[] {
  return [
    { file: `nodemailer/lib/${folder}/index.js`, patch },
    { file: `nodemailer/dist/cjs/${folder}/index.js`, patch },
    {
      file: `nodemailer/dist/esm/${folder}/index.js`,
      bindings: [className],
      patch: (bindings, guard, copy) => patch(bindings[className], guard, copy),
    },
  ]
}

function patchMailer(Mail: Bindings, guard: Guard, copy: Copy): void {
  const hook: Hook = { name: NAME, version: copy.version }
  const original = methodOf(Mail, 'sendMail')
  function sendMail(this: Mailer, ...args: unknown[]): unknown {
    const run = guard.run()
    if (run === undefined || staysInProcess(this.transporter)) return Reflect.apply(original, this, args)
    const [data, callback] = args
    const bound = typeof callback === 'function' ? guard.bind(callback as SendCallback) : callback
    return Reflect.apply(original, standIn(this, run, hook, guard), [data, bound])
  }
  Mail.prototype.sendMail = sendMail
}

/** The message goes back to the caller instead of out. */
function staysInProcess(transport: Transport): boolean {
  return (
    (transport.name === 'StreamTransport' || transport.name === 'JSONTransport') &&
    // The name is the application's to choose on a transport of its own; the class is the library's.
    transport.constructor.name === transport.name
  )
}

function patchVerify(TransportClass: Bindings, guard: Guard, copy: Copy): void {
  const hook: Hook = { name: NAME, version: copy.version }
  const original = methodOf(TransportClass, 'verify')
  function verify(this: Transport, callback?: SendCallback): unknown {
    const run = guard.run()
    if (run === undefined) return Reflect.apply(original, this, [callback])
    if (callback) {
      verified(this).then(
        guard.bind(() => callback(null, true)),
        guard.bind(callback),
      )
      return undefined
    }
    return verified(this)

    async function verified(transport: Transport): Promise<true> {
      const decision = guard.decide(run!, hook, () => classifyVerify(transport))
      guard.record(decision)
      if (decision.error !== undefined) throw decision.error
      if (decision.verdict !== 'allow') return true
      return guard.root(() =>
        guard.permit(`mail verify ${decision.rule}`, async (permit) => {
          try {
            return (await Reflect.apply(original, transport, [])) as true
          } finally {
            permit.open = false
          }
        }),
      )
    }
  }
  TransportClass.prototype.verify = verify
}

function methodOf(target: Bindings, name: string): (...args: unknown[]) => unknown {
  const method: unknown = target?.prototype?.[name]
  if (typeof method !== 'function') throw new TypeError(`no method ${name} to wrap`)
  return method as (...args: unknown[]) => unknown
}
