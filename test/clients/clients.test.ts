import { readFileSync } from 'node:fs'
import { beforeAll, describe, expect, it } from 'vitest'
import { calls, refused, versions } from './calls.mjs'
import { installed, type Measured, measureAll, measureClient, renderTable, requestsOf } from './measure.mjs'

const names = Object.keys(calls)

it.skipIf(installed || process.env['CI'] !== 'true')('the clients are installed: npm ci --prefix test/clients', () => {
  expect(installed, 'run: npm ci --prefix test/clients').toBe(true)
})

describe.skipIf(!installed)('real clients (npm ci --prefix test/clients)', () => {
  let measured: ReadonlyMap<string, Measured>
  beforeAll(async () => {
    measured = new Map((await measureAll(names)).map((row) => [row.name, row]))
  }, 300_000)

  it.each(names)('%s: a write opens no connection, returns, and is on record once', (name) => {
    const { error, result, connects, lookups, noticed, effects } = measured.get(name) as Measured
    expect(error).toBeUndefined()
    expect(result).toBeDefined()
    expect({ connects, lookups, noticed }).toEqual({ connects: 0, lookups: 0, noticed: 0 })
    expect(effects).toHaveLength(requestsOf(name))
    for (const { outcome, effect } of effects) {
      expect(outcome).toBe('blocked')
      expect(effect).not.toBe('read')
    }
  })

  it('what they return is in docs/http-clients.md', () => {
    const rows = names.map((name) => measured.get(name) as Measured)
    const document = readFileSync(new URL('../../docs/http-clients.md', import.meta.url), 'utf8')
    expect(document, 'run: node test/clients/write-table.mjs').toBe(renderTable(rows, versions()))
  })

  // Slack's client tries again whatever is not 200, for half an hour.
  const final = names.filter((name) => !name.startsWith('slack'))
  it('onBlocked: throw is final for all of them', async () => {
    const rows = await measureAll(final, 'throw')
    for (const { name, effects, connects, noticed } of rows) {
      expect({ name, attempts: effects.length, connects, noticed }).toEqual({
        name,
        attempts: 1,
        connects: 0,
        noticed: 0,
      })
      expect(effects[0]?.error?.code, name).toBe('DRY_BLOCKED')
    }
  }, 300_000)

  // It asks by a TLS connection of its own which protocol the server speaks, before there is any request to simulate.
  it.each(Object.keys(refused))('%s: a write fails closed, and opens no connection', async (name) => {
    const { error, connects, lookups, noticed, effects } = await measureClient(name)
    expect(error).toContain('a raw connection to crm.example:443 was refused')
    expect({ connects, lookups, noticed }).toEqual({ connects: 0, lookups: 0, noticed: 0 })
    expect(effects).toMatchObject([{ system: 'net', outcome: 'blocked', target: 'crm.example:443' }])
  })

  it.each(['fetch (Node)', 'undici request', 'axios', 's3 PutObject', ...Object.keys(refused)])(
    '%s: live, a connection is noticed',
    async (name) => {
      const { connects, lookups, noticed, effects } = await measureClient(name, 'live')
      expect(Math.min(connects, lookups, noticed)).toBeGreaterThan(0)
      expect(effects).toEqual([])
    },
  )
})
