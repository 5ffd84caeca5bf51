import { describe, expect, it } from 'vitest'
import { createRedactor, MAX_VALUE } from '../../src/guard/redact.js'

const { value, changes } = createRedactor(['salary'])

describe('redaction by name', () => {
  it.each([
    'password',
    'userPassword',
    'passwd',
    'pwd',
    'passphrase',
    'clientSecret',
    'access_token',
    'apiKey',
    'api-key',
    'x-api-key',
    'private_key',
    'Authorization',
    'Set-Cookie',
    'credentials',
    'cvv',
    'card_number',
    'ssn',
    'IBAN',
    'salary',
    'SALARY',
  ])('%s', (name) => {
    expect(value({ [name]: 'plain', nested: [{ [name]: { deep: 1 } }] })).toEqual({
      [name]: '[redacted]',
      nested: [{ [name]: '[redacted]' }],
    })
    expect(value('plain', name)).toBe('[redacted]')
  })

  it.each(['email', 'name', 'passenger', 'pan_id', 'compass', 'amount'])('not %s', (name) => {
    expect(value({ [name]: 'plain' })).toEqual({ [name]: 'plain' })
  })

  it('reaches the diff', () => {
    const change = { target: 'public.users', key: 'id=1' }
    expect(
      changes([
        { ...change, field: 'password', before: 'old', after: 'new' },
        { ...change, field: 'name', before: null, after: 'card 4111 1111 1111 1111' },
        { ...change, field: 'salary', after: 5 },
      ]),
    ).toEqual([
      { ...change, field: 'password', before: '[redacted]', after: '[redacted]' },
      { ...change, field: 'name', before: null, after: 'card [redacted]' },
      { ...change, field: 'salary', after: '[redacted]' },
    ])
  })
})

describe('redaction by shape', () => {
  const jwt = 'eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U'

  it.each([
    ['a JSON Web Token', `see ${jwt} there`, 'see [redacted] there'],
    ['a bearer header', 'Bearer abcdefghijklmnop==', '[redacted]'],
    ['a provider key', 'key sk-abcdefghijklmnopqrstuv end', 'key [redacted] end'],
    ['an AWS key', 'AKIAIOSFODNN7EXAMPLE', '[redacted]'],
    ['a card', 'pay 4111111111111111 now', 'pay [redacted] now'],
    ['a card with spaces', 'pay 4111 1111 1111 1111 now', 'pay [redacted] now'],
    ['a card with dashes', '5500-0055-5555-5559', '[redacted]'],
    ['a card of 15 digits', '378282246310005', '[redacted]'],
    ['a card with its expiry', 'card 4111 1111 1111 1111 12/27', 'card [redacted] 12/27'],
    ['a card after a number', 'order 77 4111 1111 1111 1111', 'order 77 [redacted]'],
    ['two cards', '4111111111111111 5500005555555559', '[redacted] [redacted]'],
  ])('%s', (_, text, expected) => {
    expect(value(text)).toBe(expected)
  })

  it.each([
    ['an order number', 'order 4111111111111112'],
    ['a timestamp', '1795169702000'],
    ['a phone number', '+41 44 668 18 00'],
    ['a UUID', '123e4567-e89b-12d3-a456-426614174000'],
    ['two dots', 'eyJustKidding.not.a.token'],
  ])('not %s', (_, text) => {
    expect(value(text)).toBe(text)
  })

  it('hides a token that the cap cuts through', () => {
    const cut = value(`${'x'.repeat(MAX_VALUE - 40)} ${jwt}`) as string
    expect(cut).not.toContain('eyJ')
    expect(cut.length).toBeLessThan(MAX_VALUE + 100)
  })
})

describe('caps', () => {
  it('cut long text and say how much is gone', () => {
    expect(value('y'.repeat(MAX_VALUE + 10))).toBe(`${'y'.repeat(MAX_VALUE)}… (10 more characters)`)
    expect(value('y'.repeat(MAX_VALUE))).toBe('y'.repeat(MAX_VALUE))
  })

  it('bound depth and length', () => {
    let deep: unknown = 'bottom'
    for (let level = 0; level < 20; level += 1) deep = { deep }
    expect(JSON.stringify(value(deep))).toContain('nested too deep')
    const list = value(Array.from({ length: 500 }, (_, index) => index)) as unknown[]
    expect(list).toHaveLength(201)
    expect(list.at(-1)).toBe('[300 more]')
  })

  it('end on a structure that contains itself many times over', () => {
    const node: Record<string, unknown> = {}
    for (let index = 0; index < 100; index += 1) node[`edge${index}`] = node
    expect(JSON.stringify(value(node)).length).toBeLessThan(1_000_000)
  })

  it('leave what JSON cannot hold as text', () => {
    const date = new Date(0)
    expect(value({ n: 10n, d: date, b: new Uint8Array(3), f: () => 1, u: undefined, bad: new Date(Number.NaN) })).toEqual({
      n: '10',
      d: '1970-01-01T00:00:00.000Z',
      b: '[3 bytes]',
      f: '[function]',
      u: undefined,
      bad: null,
    })
  })
})
