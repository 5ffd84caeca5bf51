import { describe, expect, it } from 'vitest'
import { type RawCarriers, readFlag } from '../../src/run/flag.js'

interface Row {
  readonly name: string
  readonly raw: RawCarriers
  /** Undefined: the request is live. */
  readonly flag: { runId?: string; token?: string; carriers: string[]; conflict?: boolean } | undefined
}

const many = Array.from({ length: 200 }, (_, index) => `member${index}=${'x'.repeat(60)}`)

const ROWS: readonly Row[] = [
  { name: 'nothing', raw: {}, flag: undefined },
  {
    name: 'foreign members only',
    raw: { baggage: ['user=1,not_dry_run=true'], tracestate: ['vendor=1:abc'] },
    flag: undefined,
  },

  // baggage
  {
    name: 'baggage',
    raw: { baggage: ['dry_run=true,dry_run.run.id=r1'] },
    flag: { runId: 'r1', carriers: ['baggage'] },
  },
  { name: 'baggage without an id', raw: { baggage: ['dry_run=true'] }, flag: { carriers: ['baggage'] } },
  { name: 'baggage 1', raw: { baggage: ['dry_run=1'] }, flag: { carriers: ['baggage'] } },
  {
    name: 'baggage with spaces, properties and case',
    raw: { baggage: [' a = b , dry_run = TRUE ;ttl=1 , dry_run.run.id = r1 ;x'] },
    flag: { runId: 'r1', carriers: ['baggage'] },
  },
  {
    name: 'baggage with a token',
    raw: { baggage: ['dry_run=true,dry_run.run.id=r1,dry_run.token=v1.a%2Bb.c'] },
    flag: { runId: 'r1', token: 'v1.a+b.c', carriers: ['baggage'] },
  },
  {
    name: 'baggage, last of 201 members',
    raw: { baggage: [[...many, 'dry_run=true', 'dry_run.run.id=r1'].join(',')] },
    flag: { runId: 'r1', carriers: ['baggage'] },
  },
  {
    name: 'baggage in the second of two headers',
    raw: { baggage: ['a=b', 'dry_run=true,dry_run.run.id=r1'] },
    flag: { runId: 'r1', carriers: ['baggage'] },
  },
  { name: 'baggage false', raw: { baggage: ['dry_run=false'] }, flag: undefined },
  { name: 'baggage false with an id', raw: { baggage: ['dry_run=false,dry_run.run.id=r1'] }, flag: undefined },
  { name: 'baggage 0', raw: { baggage: ['dry_run=0'] }, flag: undefined },

  // malformed is dry and marked
  {
    name: 'baggage with an unreadable value',
    raw: { baggage: ['dry_run=maybe'] },
    flag: { carriers: ['baggage'], conflict: true },
  },
  {
    name: 'baggage with an empty value',
    raw: { baggage: ['dry_run='] },
    flag: { carriers: ['baggage'], conflict: true },
  },
  { name: 'baggage with no value', raw: { baggage: ['dry_run'] }, flag: { carriers: ['baggage'], conflict: true } },
  {
    name: 'baggage with broken percent-encoding',
    raw: { baggage: ['dry_run=%zz'] },
    flag: { carriers: ['baggage'], conflict: true },
  },
  {
    name: 'an id without its flag',
    raw: { baggage: ['dry_run.run.id=r1'] },
    flag: { runId: 'r1', carriers: ['baggage'], conflict: true },
  },
  {
    name: 'a token without its flag',
    raw: { baggage: ['dry_run.token=v1.a.b'] },
    flag: { token: 'v1.a.b', carriers: ['baggage'], conflict: true },
  },
  {
    name: 'an id no carrier can hold',
    raw: { baggage: ['dry_run=true,dry_run.run.id=a b'] },
    flag: { carriers: ['baggage'], conflict: true },
  },
  {
    name: 'an id that is too long',
    raw: { baggage: [`dry_run=true,dry_run.run.id=${'r'.repeat(49)}`] },
    flag: { carriers: ['baggage'], conflict: true },
  },

  // duplicates never make it live
  {
    name: 'true then false',
    raw: { baggage: ['dry_run=true,dry_run=false'] },
    flag: { carriers: ['baggage'], conflict: true },
  },
  {
    name: 'false then true',
    raw: { baggage: ['dry_run=false', 'dry_run=true'] },
    flag: { carriers: ['baggage'], conflict: true },
  },
  { name: 'true twice', raw: { baggage: ['dry_run=true,dry_run=true'] }, flag: { carriers: ['baggage'] } },
  { name: 'false twice', raw: { baggage: ['dry_run=false,dry_run=0'] }, flag: undefined },
  {
    name: 'two ids',
    raw: { baggage: ['dry_run=true,dry_run.run.id=r1,dry_run.run.id=r2'] },
    flag: { runId: 'r1', carriers: ['baggage'], conflict: true },
  },
  {
    name: 'two headers, one live',
    raw: { header: ['0', '1:r1'] },
    flag: { runId: 'r1', carriers: ['header'], conflict: true },
  },
  {
    name: 'two headers joined by a proxy',
    raw: { header: ['1:r1, 1:r1'] },
    flag: { carriers: ['header'], conflict: true },
  },
  {
    name: 'two tracestate members',
    raw: { tracestate: ['drytrace=0,drytrace=1:r1'] },
    flag: { runId: 'r1', carriers: ['tracestate'], conflict: true },
  },

  // tracestate
  { name: 'tracestate', raw: { tracestate: ['drytrace=1:r1'] }, flag: { runId: 'r1', carriers: ['tracestate'] } },
  {
    name: 'tracestate, last of 32',
    raw: { tracestate: [[...Array.from({ length: 31 }, (_, n) => `v${n}=1`), 'drytrace=1:r1'].join(',')] },
    flag: { runId: 'r1', carriers: ['tracestate'] },
  },
  {
    name: 'tracestate of a later version',
    raw: { tracestate: ['drytrace=2:r1'] },
    flag: { carriers: ['tracestate'], conflict: true },
  },
  {
    name: 'tracestate with an unreadable id',
    raw: { tracestate: ['drytrace=1:a/b'] },
    flag: { carriers: ['tracestate'], conflict: true },
  },
  { name: 'tracestate 0', raw: { tracestate: ['drytrace=0'] }, flag: undefined },
  { name: 'tracestate of a tenant key', raw: { tracestate: ['t@drytrace=1:r1,drytrace@t=1:r1'] }, flag: undefined },

  // header
  { name: 'header', raw: { header: ['1:r1'] }, flag: { runId: 'r1', carriers: ['header'] } },
  { name: 'header typed by hand', raw: { header: ['1'] }, flag: { carriers: ['header'] } },
  { name: 'header true', raw: { header: ['true'] }, flag: { carriers: ['header'] } },
  { name: 'header false', raw: { header: ['false'] }, flag: undefined },
  { name: 'empty header', raw: { header: [''] }, flag: { carriers: ['header'], conflict: true } },
  { name: 'header of another use', raw: { header: ['yes'] }, flag: { carriers: ['header'], conflict: true } },

  // several carriers
  {
    name: 'all three agree',
    raw: { baggage: ['dry_run=true,dry_run.run.id=r1'], tracestate: ['drytrace=1:r1'], header: ['1:r1'] },
    flag: { runId: 'r1', carriers: ['baggage', 'tracestate', 'header'] },
  },
  {
    name: 'they name different runs',
    raw: { baggage: ['dry_run=true,dry_run.run.id=r1'], header: ['1:r2'] },
    flag: { runId: 'r1', carriers: ['baggage', 'header'], conflict: true },
  },
  {
    name: 'one says live',
    raw: { baggage: ['dry_run=false'], header: ['1:r1'] },
    flag: { runId: 'r1', carriers: ['header'], conflict: true },
  },
  {
    name: 'one is malformed, another restores the id',
    raw: { baggage: ['dry_run=%'], tracestate: ['drytrace=1:r1'] },
    flag: { runId: 'r1', carriers: ['baggage', 'tracestate'], conflict: true },
  },
]

describe('what the carriers say together', () => {
  it.each(ROWS)('$name', ({ raw, flag }) => {
    const read = readFlag(raw)
    if (flag === undefined) expect(read).toBeUndefined()
    else expect(read).toEqual({ runId: undefined, token: undefined, conflict: false, ...flag })
  })
})
