import { DryTraceError, messageOf } from '../../errors.js'
import type { Decision, Guard, Hook } from '../../guard/guard.js'
import type { Run } from '../../run/run.js'
import type { Mailer, MailMessage, SendCallback, Transport } from './library.js'
import { addresses, classifySend, detailOf, type SendCall } from './mail-effect.js'
import { compileMessage } from './message.js'
import { rejectedBeforeSending, returnsMessage, simulateSend, unreadable } from './simulate.js'

/**
 * A mailer for one message of a dry run: the application's own in everything
 * (plugins, defaults, DKIM), but for the transport at its end, which compiles
 * the message, records it, and answers as the real one would. The real
 * transport and its pool never see the message.
 *
 * Must be called in the context of `sendMail`: the decision falls there, on
 * the envelope as the plugins left it.
 */
export function standIn(mailer: Mailer, run: Run, hook: Hook, guard: Guard): Mailer {
  const real = mailer.transporter
  const send = guard.bind((mail: MailMessage, callback: SendCallback) => {
    const answer = settled(real, callback)
    try {
      const call: SendCall = { transport: real, envelope: mail.message.getEnvelope() }
      const decision = guard.decide(run, hook, () => classifySend(call))
      if (decision.verdict === 'allow') deliver(mailer, mail, call, decision, guard, answer)
      else {
        // Nobody has to wait for a mail: the request it belongs to may end while it is compiled.
        const release = guard.hold(run)
        void withhold(mail, call, decision, guard)
          .finally(release)
          .then(...answer)
      }
    } catch (error) {
      answer[1](error)
    }
  })
  const transport: Transport = Object.create(real, { send: { value: send } })
  return Object.create(mailer, {
    transporter: { value: transport, writable: true },
    // A proxied socket is the real transport's business.
    getSocket: { value: false, writable: true },
    // Plugins see this object and may keep it: what they send later is decided on its own, live or dry.
    sendMail: { value: (data: unknown, callback?: SendCallback) => mailer.sendMail(data, callback) },
  })
}

/** Compiles, records, and gives the native result or the error the live call would have met. */
async function withhold(mail: MailMessage, call: SendCall, decision: Decision, guard: Guard): Promise<object> {
  const { transport, envelope } = call
  if (decision.error !== undefined && !isByPolicy(decision.error)) {
    guard.record(decision)
    throw decision.error
  }
  const refused = rejectedBeforeSending(transport, mail, envelope)
  if (refused !== undefined) return wouldFail(decision, guard, refused)
  const compiled = await compileMessage(mail.message, returnsMessage(transport)).catch((error: unknown) =>
    wouldFail(decision, guard, unreadable(transport, error)),
  )
  let info: object
  let detail: ReturnType<typeof detailOf>
  try {
    const subject = mail.data['subject']
    detail = detailOf(call, typeof subject === 'string' ? subject : mail.message.getHeader('subject'), compiled)
    const response = decision.respond?.text
    info = simulateSend({ transport, mail, envelope, compiled, ...(response === undefined ? {} : { response }) })
  } catch (error) {
    throw guard.fail(decision, error)
  }
  guard.record(decision, detail)
  if (decision.error !== undefined) throw decision.error
  return info
}

/** `onBlocked: throw`: the message is compiled and recorded all the same. Errors of our own are not worth the work. */
function isByPolicy(error: Error): boolean {
  return error instanceof DryTraceError && error.code === 'DRY_BLOCKED'
}

function wouldFail(decision: Decision, guard: Guard, error: unknown): never {
  guard.record(decision, { note: `would fail: ${messageOf(error)}` })
  throw error
}

/** Sends for real, outside the run: a pooled connection outlives the call that opened it. */
function deliver(
  mailer: Mailer,
  mail: MailMessage,
  { transport, envelope }: SendCall,
  decision: Decision,
  guard: Guard,
  [resolve, reject]: Answer,
): void {
  try {
    guard.record(decision, { note: `mail to ${addresses(envelope).recipients.join(', ')}` })
  } catch (error) {
    reject(error)
    return
  }
  // The first send hands the proxy's socket function to the transport, as the library does.
  if (typeof mailer.getSocket === 'function') {
    transport.getSocket = mailer.getSocket
    mailer.getSocket = false
  }
  guard.root(() =>
    guard.permit(`mail ${decision.rule}`, (permit) =>
      transport.send(mail, (error, info) => {
        permit.open = false
        if (error) reject(error)
        else resolve(info)
      }),
    ),
  )
}

type Answer = readonly [resolve: (info: unknown) => void, reject: (error: unknown) => void]

/** An error thrown by the application's callback is logged, as the SMTP transports do, and never settles twice. */
function settled(real: Transport, callback: SendCallback): Answer {
  const call = (error: unknown, info?: unknown) => {
    try {
      callback(error, info)
    } catch (thrown) {
      real.logger?.error({ err: thrown, tnx: 'callback' }, 'Callback error: %s', messageOf(thrown))
    }
  }
  return [(info) => call(null, info), (error) => call(error)]
}
