import { afterEach, describe, expect, it, vi } from 'vitest'
import type { Guard } from '../../../../src/guard/guard.js'
import { BodyCapture } from '../../../../src/integrations/http/body-capture.js'
import { isItem, mergePatch, parseJson } from '../../../../src/integrations/http/resources/json-value.js'
import { applyChange, NotOverlaid, plannedChange } from '../../../../src/integrations/http/resources/planned-change.js'
import { resourceKey } from '../../../../src/integrations/http/resources/resource-key.js'
import { asPlanned, ResourceOverlay } from '../../../../src/integrations/http/resources/resource-overlay.js'
import { rememberWrite, resourcesOf } from '../../../../src/integrations/http/resources/run-resources.js'
import type { Exchange } from '../../../../src/integrations/http/wire-peer.js'
import { createRun } from '../../../../src/run/run.js'
import { holdRun } from '../../../../src/run/store.js'

const ORIGIN = { protocol: 'https:', host: 'crm.example', port: 443 } as const

function exchange(method: string, path: string, body: unknown = undefined, type = 'application/json'): Exchange {
  const capture = new BodyCapture(type)
  if (body !== undefined) capture.add(Buffer.from(typeof body === 'string' ? body : JSON.stringify(body)))
  return { method, path, headers: { 'content-type': type }, upgrade: false, body: capture.finish() }
}

const key = (path: string, host?: string) => resourceKey(ORIGIN, path, host)

describe('which resource a request is about', () => {
  it.each([
    ['/v1/c/7', '/v1/c/7/'],
    ['/v1/c/a%20b', '/v1/c/a b'],
    ['/v1/c/%7Eme', '/v1/c/~me'],
    ['/v1/x/../c/7', '/v1/c/7'],
    ['/v1/c/7?expand=owner', '/v1/c/7'],
    ['/v1/c/7?fields=id,name&pretty=true&force=true', '/v1/c/7'],
    ['/v1/c?b=2&a=1', '/v1/c?a=1&b=2'],
  ])('%s and %s are one', (a, b) => {
    expect(key(a)).toEqual(key(b))
  })

  it.each([
    ['/v1/c/7', '/v1/c/8'],
    ['/v1/c/a%2Fb', '/v1/c/a/b'],
    ['/v1/c?id=1', '/v1/c?id=2'],
    ['/v1/c/7?version=1', '/v1/c/7'],
    ['/v1/C/7', '/v1/c/7'],
  ])('%s and %s are two', (a, b) => {
    expect(key(a)).not.toEqual(key(b))
  })

  it('the port belongs to it, and so does the name a site is asked by', () => {
    expect(key('/a', 'crm.example')).toEqual(key('/a'))
    expect(key('/a', 'CRM.example:443')).toEqual(key('/a'))
    expect(key('/a', 'other.example')).not.toEqual(key('/a'))
    expect(resourceKey({ ...ORIGIN, port: 8443 }, '/a', undefined)).not.toEqual(key('/a'))
    // A proxy is asked for the target in full.
    expect(key('http://crm.example/a', 'crm.example')).not.toEqual(key('/a'))
  })
})

describe('what a body would change', () => {
  const real = { id: '7', name: 'a', n: 1, on: true, address: { city: 'x', zip: 'y' }, created_at: 't' }
  const changed = (method: string, body: unknown, type?: string, before: unknown = real) =>
    applyChange(before, plannedChange(exchange(method, '/c/7', body, type)) as never)

  it('merges as RFC 7396 has it', () => {
    expect(mergePatch({ a: 'b' }, { a: 'c' })).toEqual({ a: 'c' })
    expect(mergePatch({ a: 'b', b: 'c' }, { a: null })).toEqual({ b: 'c' })
    expect(mergePatch({ a: ['b'] }, { a: 'c' })).toEqual({ a: 'c' })
    expect(mergePatch({ a: { b: 'c' } }, { a: { b: 'd', c: null } })).toEqual({ a: { b: 'd' } })
    expect(mergePatch({ a: 'foo' }, 'bar')).toBe('bar')
    expect(mergePatch({ e: null }, { a: 1 })).toEqual({ e: null, a: 1 })
    expect(mergePatch([1, 2], { a: 'b', c: null })).toEqual({ a: 'b' })
    expect(mergePatch({}, { a: { bb: { ccc: null } } })).toEqual({ a: { bb: {} } })
    const polluted = mergePatch({}, JSON.parse('{"__proto__":{"polluted":true}}')) as Record<string, unknown>
    expect([polluted['polluted'], ({} as Record<string, unknown>)['polluted']]).toEqual([undefined, undefined])
  })

  it('finds the record in what wraps it', () => {
    expect(changed('PATCH', { name: 'b' }, undefined, { data: { id: 7, name: 'a' } })).toEqual({
      data: { id: 7, name: 'b' },
    })
    expect(changed('PATCH', { contact: { name: 'b' } }, undefined, { contact: { id: 7, name: 'a' } })).toEqual({
      contact: { id: 7, name: 'b' },
    })
    // An address is not the record.
    expect(changed('PATCH', { city: 'z' })).toEqual({ ...real, city: 'z' })
  })

  it('forms take the types of what they replace', () => {
    const form = 'application/x-www-form-urlencoded'
    expect(changed('POST', 'n=2&on=false&name=&tags[]=a&tags[]=b&m[x][y]=1&expand[]=owner', form)).toEqual({
      ...real,
      n: 2,
      on: false,
      name: '',
      tags: ['a', 'b'],
      m: { x: { y: '1' } },
    })
  })

  it('a PUT leaves what the service sets itself', () => {
    expect(changed('PUT', { name: 'b' })).toEqual({ id: '7', name: 'b', created_at: 't' })
    expect(changed('PUT', [1, 2])).toEqual([1, 2])
  })

  it.each<[string, Exchange]>([
    ['XML', exchange('PUT', '/c/7', '<a/>', 'application/xml')],
    ['a strategic merge patch', exchange('PATCH', '/c/7', {}, 'application/strategic-merge-patch+json')],
    ['a body that is no JSON', exchange('PATCH', '/c/7', 'x')],
    ['a list as a patch', exchange('PATCH', '/c/7', [1])],
    [
      'a JSON Patch of the prototype',
      exchange('PATCH', '/c/7', [{ op: 'add', path: '/__proto__/x', value: 1 }], 'application/json-patch+json'),
    ],
    [
      'a JSON Patch of the whole',
      exchange('PATCH', '/c/7', [{ op: 'replace', path: '', value: 1 }], 'application/json-patch+json'),
    ],
    ['a body over the cap', exchange('PUT', '/c/7', JSON.stringify('x'.repeat(2 * 1024 * 1024)))],
    ['no body', exchange('POST', '/c/7/capture')],
    ['a method of its own', exchange('MOVE', '/c/7')],
  ])('%s is not understood', (_, given) => {
    const change = plannedChange(given)
    expect(change?.kind).toBe('unknown')
    expect(() => applyChange(real, change as never)).toThrow(NotOverlaid)
  })

  it('a method override is the method', () => {
    const given = exchange('POST', '/c/7', { name: 'b' })
    expect(plannedChange({ ...given, headers: { 'x-http-method-override': 'DELETE' } })).toEqual({ kind: 'delete' })
  })

  it('an item is known by its own id', () => {
    expect(isItem({ id: 7 }, '7')).toBe(true)
    expect(isItem({ data: { uuid: 'u-1' } }, 'u-1')).toBe(true)
    expect(isItem({ data: [{ id: 7 }] }, '7')).toBe(false)
    expect(isItem(parseJson('{"id":12345678901234567890}'), '12345678901234567890')).toBe(true)
  })
})

describe('what a run keeps', () => {
  const from = (size: number, post = false) => ({ write: { summary: 'W', spanId: 's' }, post, caller: 'c', size })
  const put = (body: unknown) => ({ kind: 'replace', body }) as const
  const limits = { resources: 2, resourceBytes: 100, runBytes: 150 }

  it('is bounded: what is left out is known to be unknown, or told', () => {
    const overlay = new ResourceOverlay(limits)
    const merge = { kind: 'merge', patch: { a: 1 } } as const
    expect(overlay.change(key('/c/1'), merge, from(60))).toBe(true)
    expect(overlay.change(key('/c/1'), merge, from(60))).toBe(true)
    expect(overlay.find(key('/c/1'))?.unknown).toContain('more than 100 bytes')
    expect(() => asPlanned(overlay.find(key('/c/1')) as never, {})).toThrow(NotOverlaid)
    expect(overlay.change(key('/c/2'), merge, from(90))).toBe(false)
    expect(overlay.change(key('/c/1'), { kind: 'delete' }, from(0))).toBe(true)
    expect(overlay.find(key('/c/1'))?.base.kind).toBe('gone')
    expect(overlay.change(key('/c/2'), merge, from(90))).toBe(true)
    expect(overlay.change(key('/c/3'), merge, from(1))).toBe(false)
    expect(overlay.find(key('/c/3'))).toBeUndefined()
  })

  it('a PUT after a DELETE makes it anew, anything else leaves it gone', () => {
    const overlay = new ResourceOverlay()
    overlay.change(key('/c/1'), { kind: 'delete' }, from(0))
    overlay.change(key('/c/1'), { kind: 'merge', patch: { a: 1 } }, from(1))
    expect(overlay.find(key('/c/1'))?.base.kind).toBe('gone')
    overlay.change(key('/c/1'), put({ a: 2 }), from(1))
    expect(overlay.find(key('/c/1'))?.base).toMatchObject({ kind: 'planned', value: { a: 2 } })
  })

  it('a collection that is deleted is empty, not gone', () => {
    const overlay = new ResourceOverlay()
    overlay.change(key('/c'), { kind: 'delete' }, from(0))
    const resource = overlay.find(key('/c'))
    expect(() => asPlanned(resource as never, { data: [] })).toThrow('a list')
    expect(asPlanned(resource as never, { name: 'c' })).toBeUndefined()
  })

  it('what only the run knows is meant whatever the query asks', () => {
    const overlay = new ResourceOverlay()
    overlay.create(key('/c/dry_1'), { value: { a: 1 }, contentType: 'application/json' }, from(1))
    overlay.change(key('/c/dry_1?notify=7'), { kind: 'merge', patch: { a: 2 } }, from(1))
    expect(overlay.find(key('/c/dry_1?view=x&p=1'))?.base).toMatchObject({ value: { a: 2 } })
    overlay.change(key('/c/dry_1?notify=7'), { kind: 'delete' }, from(0))
    expect(overlay.find(key('/c/dry_1'))?.base.kind).toBe('gone')
  })
})

describe('the state of a run', () => {
  afterEach(() => vi.useRealTimers())

  it('is dropped a minute after its end, unless the run was entered again', () => {
    vi.useFakeTimers()
    const guard = { within: (_: unknown, fn: () => unknown) => fn(), problem: () => {} } as unknown as Guard
    const run = createRun({ entry: 'dryRun', carriers: ['api'] })
    const call = { ...ORIGIN, method: 'PATCH', path: '/c/7', upgrade: false }
    const write = {
      call,
      exchange: exchange('PATCH', '/c/7', { a: 1 }),
      answer: { status: 200 },
      ids: [],
      summary: 'W',
    }
    const release = holdRun(run)
    rememberWrite(guard, run, write, { traceId: 't', spanId: 's' })
    release()
    const again = holdRun(run)
    vi.advanceTimersByTime(70_000)
    expect(resourcesOf(run)?.find(key('/c/7'))).toBeDefined()
    again()
    vi.advanceTimersByTime(50_000)
    expect(resourcesOf(run)).toBeDefined()
    vi.advanceTimersByTime(20_000)
    expect(resourcesOf(run)).toBeUndefined()
  })
})
