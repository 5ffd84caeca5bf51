import { createHmac } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { DryTraceError } from '../../src/errors.js'
import { createToken, verifyToken } from '../../src/run/token.js'

const secret = 'a secret of a test'

describe('token', () => {
  it('says what was signed', () => {
    const before = Math.floor(Date.now() / 1000)
    const token = createToken({ runId: 'dr-1', secret, audience: 'billing', ttl: 60 })
    const claims = verifyToken(token, { secret, audience: ['crm', 'billing'] })
    expect(claims).toMatchObject({ runId: 'dr-1', audience: 'billing' })
    expect(claims.expiresAt - before).toBeGreaterThanOrEqual(60)
    expect(claims.expiresAt - before).toBeLessThanOrEqual(62)
    // It travels in baggage, so it needs no escaping.
    expect(encodeURIComponent(token)).toBe(token)
  })

  it('lasts 15 minutes when nobody says how long', () => {
    const token = createToken({ runId: 'dr-1', secret })
    expect(() => verifyToken(token, { secret, now: Date.now() + 14 * 60_000 })).not.toThrow()
    expect(reason(token, { now: Date.now() + 16 * 60_000 })).toMatch(/expired at \d{4}-/)
  })

  it('is refused for another audience', () => {
    expect(reason(createToken({ runId: 'dr-1', secret, audience: 'crm' }), { audience: ['billing'] })).toContain(
      'for audience "crm", not for billing',
    )
    // A token for nobody in particular is not one for us.
    expect(reason(createToken({ runId: 'dr-1', secret }), { audience: ['billing'] })).toContain('for audience ""')
  })

  it('is refused when anything in it was changed', () => {
    const [version, claims, mac] = createToken({ runId: 'dr-1', secret }).split('.') as [string, string, string]
    const other = Buffer.from(JSON.stringify({ r: 'dr-2', a: '', e: 9_999_999_999 })).toString('base64url')
    const flipped = mac.startsWith('A') ? `B${mac.slice(1)}` : `A${mac.slice(1)}`
    for (const token of [
      `${version}.${other}.${mac}`,
      `${version}.${claims}.${flipped}`,
      `${version}.${claims}.${mac.slice(0, -1)}`,
      `${version}.${claims}.`,
      `${version}.${claims}.${createHmac('sha256', 'another').update(`v1.${claims}`).digest('base64url')}`,
    ]) {
      expect(reason(token)).toContain('not signed with our secret')
    }
  })

  it.each(['', 'v1', 'v1.a', 'v2.a.b', 'v1.a.b.c', 'a.b.c'])('is refused when malformed: %j', (token) => {
    expect(reason(token)).toContain('malformed token')
  })

  it('is not made of what cannot travel or be checked', () => {
    expect(() => createToken({ runId: 'a b', secret })).toThrow(/run id "a b"/)
    expect(() => createToken({ runId: 'a', secret: '' })).toThrow(/secret is empty/)
  })
})

function reason(token: string, options: { audience?: string[]; now?: number } = {}): string {
  try {
    verifyToken(token, { secret, ...options })
  } catch (error) {
    expect(error).toBeInstanceOf(DryTraceError)
    expect((error as DryTraceError).code).toBe('DRY_TOKEN_INVALID')
    return (error as Error).message
  }
  return 'accepted'
}
