import type { ClientHttp2Stream } from 'node:http2'
import type { Decision, Guard } from '../../guard/guard.js'
import type { HttpCall } from '../http/http-effect.js'
import { mayBeModelCall, noteModelCall, Tap } from '../http/model-call.js'

/** Notes what a model call asks and is answered. The stream is the caller's: it is looked at, never read. */
export function tapStream(guard: Guard, decision: Decision, stream: ClientHttp2Stream, call: HttpCall): void {
  if (!mayBeModelCall(decision, call)) return
  const asked = new Tap()
  const answered = new Tap()
  let noted = false
  const note = () => {
    if (noted) return
    noted = true
    noteModelCall(guard, decision, call, asked.json(), answered.json())
  }
  look(stream, 'write', ([chunk]) => asked.add(chunk))
  look(stream, 'end', ([chunk]) => asked.add(chunk))
  // What arrives comes by push, whether or not anybody reads it.
  look(stream, 'push', ([chunk]) => (chunk === null ? note() : answered.add(chunk)))
  stream.once('close', note)
}

function look(
  stream: ClientHttp2Stream,
  name: 'write' | 'end' | 'push',
  see: (args: readonly unknown[]) => void,
): void {
  const original = stream[name] as (...args: unknown[]) => unknown
  Object.defineProperty(stream, name, {
    configurable: true,
    writable: true,
    value: function (this: unknown, ...args: unknown[]) {
      see(args)
      return Reflect.apply(original, this, args)
    },
  })
}
