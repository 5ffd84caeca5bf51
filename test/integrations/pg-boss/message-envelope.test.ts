import { describe, expect, it } from 'vitest'
import {
  decode,
  ENVELOPE_KEY,
  encode,
  hasEnvelope,
  unwrapBody,
  wrapBody,
} from '../../../src/carriers/message-envelope.js'

const RUN = { id: 'dr-abc-1', token: 'v1.claims.mac' }

describe('the envelope of a message', () => {
  it.each([[{ order: 7, nested: { a: [1] } }], [[1, 2]], ['text'], [42], [null], [true], [{}]])(
    'comes off %j as it went on, after JSON',
    (body) => {
      const message: unknown = JSON.parse(JSON.stringify(wrapBody(RUN, body)))
      expect(hasEnvelope(message)).toBe(true)
      expect(unwrapBody(message)).toEqual({
        body,
        decoded: { runId: 'dr-abc-1', token: 'v1.claims.mac', malformed: false },
      })
    },
  )

  it('has no token where the run has none', () => {
    expect(encode({ id: 'dr-1', token: null })).toEqual({ v: 1, run: 'dr-1' })
    expect(decode(encode({ id: 'dr-1', token: null }))).toEqual({ runId: 'dr-1', token: undefined, malformed: false })
  })

  it.each([
    [null],
    ['dr-1'],
    [[]],
    [{}],
    [{ v: 1 }],
    [{ v: 2, run: 'dr-1' }],
    [{ v: 1, run: 'has spaces' }],
    [{ v: 1, run: 7 }],
    [{ v: 1, run: 'dr-1', token: 5 }],
    [{ v: 1, run: 'dr-1', token: 'x'.repeat(5_000) }],
  ])('that cannot be read (%j) is malformed and still an envelope: dry, never live', (envelope) => {
    expect(decode(envelope)?.malformed).toBe(true)
    expect(unwrapBody({ [ENVELOPE_KEY]: envelope, a: 1 })?.decoded.malformed).toBe(true)
  })

  it.each([[undefined], [null], ['x'], [[{ [ENVELOPE_KEY]: 1 }]], [{ a: 1 }], [{ a: { [ENVELOPE_KEY]: 1 } }]])(
    'is not seen where there is none: %j is live',
    (message) => {
      expect(hasEnvelope(message)).toBe(false)
      expect(unwrapBody(message)).toBeUndefined()
    },
  )

  it('is no envelope at all without a value', () => {
    expect(decode(undefined)).toBeUndefined()
  })
})
