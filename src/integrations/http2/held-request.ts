import type { ClientHttp2Session, ClientHttp2Stream, IncomingHttpHeaders } from 'node:http2'
import { carryFlag } from '../../carriers/outgoing.js'
import type { Guard } from '../../guard/guard.js'
import { heldBody, heldHeaders, relayedHeaders } from '../http/held-request.js'
import type { HttpCall } from '../http/http-effect.js'
import type { SendHeld } from '../http/send-held.js'
import type { SimulatedResponse } from '../http/wire-peer.js'
import { copyHeaders } from './http2-call.js'
import { tapStream } from './model-call.js'

/** Sends a request that was held until its body was whole, on the session it was made on. */
export function sendHeld(
  guard: Guard,
  request: (...args: never[]) => ClientHttp2Stream,
  session: ClientHttp2Session,
  call: HttpCall,
): SendHeld {
  return (decision, exchange, signal) =>
    new Promise<SimulatedResponse>((resolve, reject) => {
      const { host: authority, ...plain } = heldHeaders(exchange)
      const { headers, bag } = copyHeaders({
        ':method': exchange.method,
        ':path': exchange.path,
        ...(authority ? { ':authority': authority } : {}),
        ...plain,
      })
      carryFlag(bag, decision.run, guard.forwards(call.host))
      const body = heldBody(exchange)
      // Without it Node ends the request of a GET at once, and of a POST never.
      const options = { signal, endStream: body.length === 0 }
      const stream = Reflect.apply(request as (...args: unknown[]) => ClientHttp2Stream, session, [headers, options])
      tapStream(guard, decision, stream, call)
      stream.on('error', reject)
      stream.once('close', () => reject(new Error('the stream was closed before it was answered')))
      stream.once('response', (answer: IncomingHttpHeaders & { ':status'?: number }) => {
        const pairs = Object.entries(answer).flatMap(([name, value]) =>
          name.startsWith(':') || value === undefined ? [] : [value].flat().map((each) => [name, each] as const),
        )
        resolve({ status: answer[':status'] ?? 502, headers: relayedHeaders(pairs), body: stream })
      })
      if (body.length > 0) stream.end(body)
    })
}
