import { beforeAll, describe, expect, it } from 'vitest'
import type { Table } from '../../src/sql/catalog.js'
import { loadGrammar, parseOne } from '../../src/sql/grammar.js'
import { MAX_OVERLAY_ROWS, Overlay, type OverlayRow, overlayTime, type RowChange } from '../../src/sql/overlay.js'
import type { Resolution } from '../../src/sql/overlay-catalog.js'
import { markedTable, NotOverlaid, overlayStatement, relationsToResolve } from '../../src/sql/overlay-rewrite.js'
import { relationUses } from '../../src/sql/relations.js'

beforeAll(() => loadGrammar())

function table(name: string, oid: string, key: boolean): Table {
  const column = (columnName: string, number: number, type: string) => ({
    name: columnName,
    number,
    type,
    baseType: type,
    typmod: -1,
    domain: false,
    notNull: false,
    identity: '' as const,
    generated: '' as const,
    default: null,
    domainDefault: null,
  })
  return {
    oid,
    kind: 'r',
    schema: 'public',
    name,
    rowSecurity: false,
    columns: [column('id', 1, 'integer'), column('v', 2, 'text')],
    indexes: key
      ? [
          {
            name: `${name}_pkey`,
            primary: true,
            constraint: `${name}_pkey`,
            keys: ['id'],
            numbers: [1],
            predicate: null,
            immediate: true,
          },
        ]
      : null,
    checks: null,
    foreignKeys: null,
    referencedBy: null,
    triggers: null,
    triggerTypes: null,
    rules: null,
    rowSecurityActive: false,
    policies: null,
    partitionBound: null,
    leaves: null,
    view: null,
    checkOption: null,
  }
}

const keyed = table('keyed', '100', true)
const bag = table('bag', '200', false)
const insert = (...row: OverlayRow): RowChange => ({ operation: 'i', before: null, after: row, id: null })
const update = (id: string, before: OverlayRow, after: OverlayRow): RowChange => ({ operation: 'u', before, after, id })
const remove = (id: string, before: OverlayRow): RowChange => ({ operation: 'd', before, after: null, id })

const state = (overlay: Overlay, { oid }: Table) => ({
  rows: [...(overlay.table(oid)?.rows.values() ?? [])],
  gone: [...(overlay.table(oid)?.gone.values() ?? [])],
})
/** The id a preview would report for a row of the overlay. */
const idOf = (overlay: Overlay, { oid }: Table, v: string) => {
  const found = [...(overlay.table(oid)?.rows ?? [])].find(([, row]) => row[1] === v)
  return `0:(${found?.[0]},1)`
}

describe('an overlay', () => {
  it('holds new rows, and hides what they replace: by key where there is one', () => {
    const overlay = new Overlay()
    expect(overlay.untouched).toBe(true)
    overlay.apply({}, [{ table: keyed, rows: [insert('9', 'new'), update('100:(0,1)', ['1', 'a'], ['1', 'b'])] }])
    overlay.apply({}, [{ table: bag, rows: [remove('200:(0,7)', ['1', 'x'])] }])
    expect(state(overlay, keyed)).toEqual({
      rows: [
        ['9', 'new'],
        ['1', 'b'],
      ],
      gone: [['1']],
    })
    expect(state(overlay, bag)).toEqual({ rows: [], gone: [['200', '(0,7)']] })
    overlay.apply({}, [{ table: keyed, rows: [remove(idOf(overlay, keyed, 'new'), ['9', 'new'])] }])
    overlay.apply({}, [{ table: keyed, rows: [update(idOf(overlay, keyed, 'b'), ['1', 'b'], ['2', 'c'])] }])
    expect(state(overlay, keyed)).toEqual({ rows: [['2', 'c']], gone: [['1']] })
    expect(overlay.untouched).toBe(false)
  })

  it('lets the rows of one statement swap keys, and its parts reuse one', () => {
    const overlay = new Overlay()
    const swap = [update('100:(0,1)', ['1', 'a'], ['2', 'a']), update('100:(0,2)', ['2', 'b'], ['1', 'b'])]
    overlay.apply({}, [{ table: keyed, rows: swap }])
    expect(state(overlay, keyed).rows).toEqual([
      ['2', 'a'],
      ['1', 'b'],
    ])
    overlay.apply({}, [
      { table: keyed, rows: [insert('1', 'again')] },
      { table: { ...keyed }, rows: [remove(idOf(overlay, keyed, 'b'), ['1', 'b'])] },
    ])
    expect(state(overlay, keyed).rows).toEqual([
      ['2', 'a'],
      ['1', 'again'],
    ])
  })

  it('keeps one row per key when two connections write it at once', () => {
    const overlay = new Overlay()
    overlay.apply({}, [{ table: keyed, rows: [update('100:(0,1)', ['1', 'a'], ['1', 'first'])] }])
    overlay.apply({}, [{ table: keyed, rows: [update('100:(0,1)', ['1', 'a'], ['1', 'second'])] }])
    expect(state(overlay, keyed)).toEqual({ rows: [['1', 'second']], gone: [['1']] })
  })

  it('takes back what one owner wrote since a point in time, and nothing else', () => {
    const overlay = new Overlay()
    const [one, other] = [{}, {}]
    overlay.apply(one, [{ table: keyed, rows: [insert('1', 'kept')] }])
    const since = overlayTime()
    overlay.apply(one, [{ table: keyed, rows: [update(idOf(overlay, keyed, 'kept'), ['1', 'kept'], ['1', 'undone'])] }])
    overlay.apply(other, [{ table: keyed, rows: [insert('2', 'other'), remove('100:(0,3)', ['3', 'c'])] }])
    overlay.undo(one, since)
    expect(state(overlay, keyed)).toEqual({
      rows: [
        ['1', 'kept'],
        ['2', 'other'],
      ],
      gone: [['3']],
    })
    overlay.undo(other, 0)
    expect(state(overlay, keyed)).toEqual({ rows: [['1', 'kept']], gone: [] })
  })

  it('is bounded, takes a statement as a whole or not at all, and has room again after an undo', () => {
    const overlay = new Overlay()
    const many = Array.from({ length: MAX_OVERLAY_ROWS - 1 }, (_, id) => insert(String(id), 'x'))
    const owner = {}
    expect(overlay.apply(owner, [{ table: bag, rows: many }])).toBe(true)
    expect(overlay.apply({}, [{ table: keyed, rows: [insert('1', 'a'), insert('2', 'b')] }])).toBe(false)
    expect(state(overlay, keyed).rows).toEqual([])
    expect(overlay.stale.has(keyed.oid)).toBe(true)
    overlay.undo(owner, 0)
    expect(overlay.apply({}, [{ table: keyed, rows: [insert('1', 'a'), insert('2', 'b')] }])).toBe(true)
  })
})

describe('the relations of a statement', () => {
  const named = (text: string) =>
    relationUses(parseOne(text)).map(({ relation }) =>
      [relation.schemaname, relation.relname].filter(Boolean).join('.'),
    )

  it.each<[string, string[]]>([
    ['SELECT * FROM a, s.b JOIN c USING (id)', ['a', 's.b', 'c']],
    ['WITH a AS (SELECT * FROM a) SELECT * FROM a', ['a']],
    ['WITH a AS (SELECT 1) SELECT * FROM a, s.a', ['s.a']],
    ['WITH RECURSIVE a AS (SELECT * FROM a UNION SELECT * FROM b) SELECT * FROM a', ['b']],
    ['WITH a AS (SELECT * FROM b), b AS (SELECT * FROM a) SELECT * FROM a, b', ['b']],
    ['SELECT (WITH a AS (SELECT 1) SELECT 1 FROM a), (SELECT 1 FROM a)', ['a']],
    ['SELECT * FROM a UNION ALL (WITH a AS (SELECT * FROM c) SELECT * FROM a)', ['a', 'c']],
    ['WITH a AS (SELECT 1) INSERT INTO a SELECT * FROM a', ['a']],
    ['UPDATE a SET v = 1 FROM b WHERE EXISTS (SELECT 1 FROM c)', ['a', 'b', 'c']],
    ['SELECT * FROM a TABLESAMPLE SYSTEM (1), LATERAL (SELECT * FROM b) x, f(1)', ['a', 'b']],
  ])('%s', (text, expected) => {
    expect(named(text).sort()).toEqual([...expected].sort())
  })
})

describe('a rewritten statement', () => {
  const overlay = new Overlay()
  overlay.apply({}, [{ table: keyed, rows: [insert('9', "it's"), remove('100:(0,1)', ['1', 'a'])] }])
  const visible = (name: string) => ({
    schema: 'public',
    name,
    rowSecurity: false,
    inherited: false,
    columns: [
      { name: 'id', type: 'integer', collation: null, comparable: true },
      { name: 'v', type: 'text', collation: 'pg_catalog."C"', comparable: true },
    ],
  })
  const resolution: Resolution = {
    relations: [
      { name: '"keyed"', oid: '100', through: [], table: visible('keyed') },
      { name: '"public"."keyed"', oid: '100', through: [], table: visible('keyed') },
      { name: '"other"', oid: '300', through: [], table: null },
    ],
    functions: [],
  }
  const rewrite = (text: string, parameters = 0) => overlayStatement(text, { overlay, resolution, parameters })

  it('has its rows as parameters after its own, once per table', () => {
    const rewritten = rewrite('SELECT * FROM keyed a JOIN public.keyed b USING (id) WHERE a.id = $1 AND b.v = $2', 2)
    expect(rewritten?.values.map((value) => JSON.parse(value))).toEqual([[['1']], [[1, '9', "it's"]]])
    expect(rewritten?.types).toEqual([114, 114])
    expect(rewritten?.text).toContain('$3')
    expect(rewritten?.text).toContain('$4')
    expect(rewritten?.text).not.toContain('$5')
    expect(rewritten?.text).not.toContain('it')
  })

  it('is left alone when it reads nothing of the run', () => {
    expect(rewrite('SELECT * FROM other')).toBeUndefined()
    expect(rewrite('WITH keyed AS (SELECT 1) SELECT * FROM keyed')).toBeUndefined()
  })

  it('gives a marked table the columns that tell rows apart', () => {
    const text = `SELECT e.ctid FROM ${markedTable('100', 'e')}, keyed`
    expect(relationsToResolve(text, overlay).sort()).toEqual(['"keyed"', '"public"."keyed"'])
    expect(rewrite(text)?.text).toMatch(/r__\.tableoid/)
    expect(() => rewrite(`SELECT 1 FROM ${markedTable('400', 'e')}`)).toThrow(NotOverlaid)
  })

  it('is refused where the grammar takes a table only, or the table is not what it was', () => {
    expect(() => rewrite('SELECT * FROM keyed TABLESAMPLE SYSTEM (1)')).toThrow(/sampled/)
    const changed = { ...visible('keyed'), columns: visible('keyed').columns.slice(1) }
    const now: Resolution = { functions: [], relations: [{ name: '"keyed"', oid: '100', through: [], table: changed }] }
    expect(() => overlayStatement('SELECT * FROM keyed', { overlay, resolution: now, parameters: 0 })).toThrow(
      /columns/,
    )
  })
})
