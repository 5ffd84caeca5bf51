import { readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { gunzipSync } from 'node:zlib'
import { beforeAll, describe, expect, it } from 'vitest'
import { classify, type StatementKind, worstKind } from '../../src/sql/classify.js'
import { loadGrammar, MAX_TEXT_BYTES, scannedWithoutLiterals } from '../../src/sql/grammar.js'
import { withoutLiterals } from '../../src/sql/without-literals.js'
import { ROOT, runCommand, scratchDirectory } from '../support/child.js'

interface Truth {
  sql: string
  truth: 'read' | 'write' | 'session' | 'error'
  readOnly: 'blocked' | 'error' | 'ran'
  outlivesRollback: boolean
}

beforeAll(loadGrammar)

describe('against what a real server did', () => {
  const lines = gunzipSync(readFileSync(new URL('./fixtures/pg-truth.jsonl.gz', import.meta.url)))
    .toString('utf8')
    .trim()
    .split('\n')
  const truths = lines.map((line) => JSON.parse(line) as Truth)
  /** Kinds that are executed, inside BEGIN READ ONLY and ROLLBACK. */
  const executed: readonly StatementKind[] = ['read', 'unsure']

  it('nothing with an effect that READ ONLY lets through is a read', () => {
    const wrong = truths.filter(
      ({ sql, truth, readOnly, outlivesRollback }) =>
        worstKind(classify(sql)) === 'read' &&
        truth !== 'read' &&
        truth !== 'error' &&
        (readOnly === 'ran' || outlivesRollback),
    )
    expect(wrong).toEqual([])
  })

  it('of what is executed only calls of user functions leave a trace', () => {
    const wrong = truths.filter(
      ({ sql, outlivesRollback }) => executed.includes(worstKind(classify(sql))) && outlivesRollback,
    )
    // Its body is known to the database alone: the scan of user functions finds it.
    expect(wrong.map(({ sql }) => sql)).toEqual(['select f_adv();'])
  })

  it('no plain SELECT that only reads is taken for a write', () => {
    const reads = truths.filter(
      ({ sql, truth }) => truth === 'read' && /^\s*(select|values|table|show)\b(?!.*\binto\b)/is.test(sql),
    )
    expect(reads.length).toBeGreaterThan(50)
    expect(reads.filter(({ sql }) => worstKind(classify(sql)) === 'write')).toEqual([])
  })

  it('every text loses its literals as the lexer of PostgreSQL has them', () => {
    const texts = truths.flatMap(({ sql }) => classify(sql)).filter(({ node }) => node !== '')
    expect(texts.length).toBeGreaterThan(27_000)
    const wrong = texts.filter(({ text }) => withoutLiterals(text) !== scannedWithoutLiterals(text))
    expect(wrong.map(({ text }) => text)).toEqual([])
  })

  it('every plain write is seen to be one', () => {
    const writes = truths.filter(
      ({ sql, truth }) =>
        truth === 'write' && /^\s*(insert|update|delete|merge|create|drop|alter|truncate)\b/i.test(sql),
    )
    expect(writes.length).toBeGreaterThan(100)
    const missed = writes.filter(({ sql }) => !['write', 'deny', 'unparsed'].includes(worstKind(classify(sql))))
    expect(missed).toEqual([])
  })
})

describe('npm run pg:truth', () => {
  const score = (...args: string[]) =>
    runCommand(process.execPath, [path.join(ROOT, 'scripts/pg-truth.mjs'), ...args], { timeout: 60_000 })
  const fileOf = (...truths: Truth[]) => {
    const file = path.join(scratchDirectory(), 'truths.jsonl')
    writeFileSync(file, truths.map((truth) => JSON.stringify(truth)).join('\n'))
    return file
  }
  const read: Truth = { sql: 'SELECT 1', truth: 'read', readOnly: 'ran', outlivesRollback: false }

  it('holds on the statements of this repository', async () => {
    const { code, stdout } = await score()
    expect(stdout).toContain('27513 statements, 0 judged read')
    expect(stdout).toMatch(/READ ONLY would not have stopped: 0 of 13142\n$/)
    expect(code).toBe(0)
  })

  it.each<[string, Truth[], number]>([
    ['nothing is wrong', [read], 0],
    ['READ ONLY stops it', [read, { ...read, truth: 'write', readOnly: 'blocked' }], 0],
    ['a write is judged a read', [read, { ...read, truth: 'write' }], 1],
    ['a session change is judged a read', [read, { ...read, truth: 'session', readOnly: 'error' }], 1],
    ['a read leaves something behind', [{ ...read, outlivesRollback: true }], 1],
    ['reads are refused', [read, { ...read, sql: "SELECT nextval('s')" }], 1],
    ['a block is taken for a read', [read, { ...read, sql: 'DO $$begin end$$', truth: 'write' }], 1],
    ['an id is not assigned', [{ ...read, sql: 'SELECT txid_current()' }], 0],
    ['row locks are not taken', [{ ...read, sql: 'SELECT 1 FROM t FOR UPDATE' }], 0],
    ['a table is not locked', [{ ...read, sql: 'LOCK TABLE t' }], 1],
  ])('%s: exit code', async (_, truths, expected) => {
    expect((await score(fileOf(...truths))).code).toBe(expected)
  })
})

describe('one statement', () => {
  it.each<[string, StatementKind, string, string | undefined]>([
    ['SELECT * FROM a.b', 'read', 'SELECT', 'a.b'],
    ['SELECT lower(x), count(*) FROM t', 'read', 'SELECT', 't'],
    ['SELECT pg_catalog.now()', 'read', 'SELECT', undefined],
    ['SELECT my.now()', 'unsure', 'SELECT', undefined],
    ['SELECT do_it(1) FROM t', 'unsure', 'SELECT', 't'],
    ["SELECT nextval('s')", 'deny', 'SELECT', 'nextval'],
    ['SELECT pg_advisory_xact_lock(1)', 'deny', 'SELECT', 'pg_advisory_xact_lock'],
    ["SELECT (SELECT dblink_exec('x'))", 'deny', 'SELECT', 'dblink_exec'],
    ['SELECT 1 FROM t FOR UPDATE', 'lock', 'SELECT FOR UPDATE', 't'],
    ['SELECT * INTO x FROM t', 'write', 'SELECT INTO', 'x'],
    ['WITH d AS (DELETE FROM t RETURNING *) SELECT * FROM d', 'write', 'DELETE', 't'],
    ['WITH d AS (SELECT 1) SELECT * FROM d', 'read', 'SELECT', undefined],
    ['UPDATE s.t SET a = 1', 'write', 'UPDATE', 's.t'],
    ['MERGE INTO t USING s ON true WHEN MATCHED THEN DELETE', 'write', 'MERGE', 't'],
    ['EXPLAIN DELETE FROM t', 'read', 'EXPLAIN', 't'],
    ['EXPLAIN (ANALYZE false) DELETE FROM t', 'read', 'EXPLAIN', 't'],
    ['EXPLAIN ANALYZE DELETE FROM t', 'write', 'EXPLAIN ANALYZE DELETE', 't'],
    ['EXPLAIN (ANALYZE 1) SELECT 1', 'read', 'EXPLAIN ANALYZE SELECT', undefined],
    ["COPY t FROM '/x'", 'write', 'COPY FROM', 't'],
    ["COPY t TO PROGRAM 'sh'", 'deny', 'COPY TO', 't'],
    ['COPY t TO STDOUT', 'read', 'COPY TO', 't'],
    ['COPY (DELETE FROM t RETURNING *) TO STDOUT', 'write', 'COPY TO', 't'],
    ['CREATE TABLE x (a int)', 'write', 'CREATE TABLE', 'x'],
    ['DROP TABLE x', 'write', 'DROP TABLE', undefined],
    ['TRUNCATE x', 'write', 'TRUNCATE TABLE', 'x'],
    ['CALL p()', 'unsure', 'CALL', undefined],
    ['CALL lower(1)', 'unsure', 'CALL', undefined],
    ["CALL p(nextval('s'))", 'deny', 'CALL', 'nextval'],
    ['CALL p((SELECT 1 FROM t FOR UPDATE))', 'write', 'CALL', 't'],
    ['DO $$begin end$$', 'unsure', 'DO', undefined],
    ['DO $$begin perform f(a) from s.t; end$$', 'unsure', 'DO', 's.t'],
    ['DO $$begin update t set a = 1; end$$', 'write', 'DO', undefined],
    ["DO $$begin execute 'select 1'; end$$", 'write', 'DO', undefined],
    ['DO $$begin commit; end$$', 'write', 'DO', undefined],
    ['DO $$begin perform 1; exception when others then null; end$$', 'write', 'DO', undefined],
    ['DO $$begin perform txid_current(); end$$', 'write', 'DO', undefined],
    ["DO $$declare r s.t := nextval('s'); begin end$$", 'write', 'DO', undefined],
    ['DO $$declare "R" record default f(); begin end$$', 'write', 'DO', undefined],
    [
      "DO $$declare c refcursor; x text; begin open c for execute 'select 1'; fetch c into x; end$$",
      'write',
      'DO',
      undefined,
    ],
    ["DO $$declare c refcursor := 'app'; x text; begin fetch c into x; end$$", 'write', 'DO', undefined],
    ["DO $$declare c refcursor := 'app'; begin close c; end$$", 'write', 'DO', undefined],
    ['DO $$declare c refcursor; x text; begin open c for select 1; fetch c into x; end$$', 'unsure', 'DO', undefined],
    ['DO $$declare r record; begin r := f(); end$$', 'unsure', 'DO', undefined],
    ["DO $$declare c cursor for select nextval('s'); begin end$$", 'write', 'DO', undefined],
    ["DO $$declare a int[]; begin a[nextval('s')] := 1; end$$", 'write', 'DO', undefined],
    ['DO $$no block$$', 'write', 'DO', undefined],
    ["DO LANGUAGE plpython3u 'pass'", 'write', 'DO', undefined],
    ["DO LANGUAGE sql 'SELECT 1'", 'write', 'DO', undefined],
    ['SELECT txid_current()', 'xid', 'SELECT', undefined],
    ['SELECT pg_current_xact_id() FROM t FOR UPDATE', 'lock', 'SELECT FOR UPDATE', 't'],
    ["SELECT txid_current(), nextval('s')", 'deny', 'SELECT', 'nextval'],
    ['SELECT txid_status(txid_current())', 'deny', 'SELECT', 'txid_current'],
    ['INSERT INTO t SELECT txid_current()', 'write', 'INSERT', 't'],
    ['NOTIFY chan', 'deny', 'NOTIFY', 'chan'],
    ['LOCK TABLE t', 'lock', 'LOCK TABLE', 't'],
    ['SET search_path = x', 'session', 'SET', 'search_path'],
    ['SET TRANSACTION READ WRITE', 'txmode', 'SET', 'transaction'],
    ['SET transaction_read_only = off', 'txmode', 'SET', 'transaction_read_only'],
    ['BEGIN', 'tx', 'BEGIN', undefined],
    ["COMMIT PREPARED 'x'", 'write', 'COMMIT PREPARED', undefined],
    ['PREPARE p AS DELETE FROM t', 'write', 'PREPARE', 't'],
    ['PREPARE p AS SELECT 1', 'session', 'PREPARE', undefined],
    ['EXECUTE p', 'unsure', 'EXECUTE', undefined],
    ['SELEC 1', 'unparsed', 'SQL', undefined],
  ])('%s', (sql, kind, operation, relation) => {
    const [statement] = classify(sql)
    expect(statement).toMatchObject({ kind, operation, relation })
  })

  it('of a block are told all functions and relations', () => {
    const [statement] = classify(
      'DO $$declare n int := f(1); r record; begin for r in select g(a) from s.t loop call h(n); end loop; end$$',
    )
    expect(statement?.unknown.toSorted()).toEqual(['f', 'g', 'h'])
    expect(statement?.functions).toEqual(expect.arrayContaining(['f', 'g', 'h']))
    expect(statement?.relations).toEqual(['s.t'])
  })

  it('is judged by its most cautious function', () => {
    expect(classify("INSERT INTO t SELECT pg_notify('a', f())")[0]).toMatchObject({
      kind: 'write',
      denied: ['pg_notify'],
      unknown: ['f'],
    })
  })
})

describe('texts', () => {
  it('are split where the grammar says, in characters that take several bytes', () => {
    const statements = classify("SELECT 'ä;€' ; -- ; not here\n UPDATE t SET a = $$;$$ WHERE b = 'é';;")
    expect(statements.map(({ text }) => text)).toEqual(["SELECT 'ä;€'", "UPDATE t SET a = $$;$$ WHERE b = 'é'"])
    expect(worstKind(statements)).toBe('write')
  })

  it('may be empty', () => {
    expect(classify(' -- nothing\n')).toEqual([])
  })

  it('that are too long or hold a NUL are not judged', () => {
    expect(worstKind(classify(`SELECT '${'x'.repeat(MAX_TEXT_BYTES)}'`))).toBe('unparsed')
    expect(worstKind(classify('SELECT 1\0; DELETE FROM t'))).toBe('unparsed')
  })

  it('have one fingerprint whatever their constants', () => {
    const [a, b, c] = [
      "UPDATE t SET a = 1 WHERE b = 'x'",
      "update t  set a = 22 where b = 'y'",
      'UPDATE t SET c = 1',
    ].map((sql) => classify(sql)[0]?.fingerprint)
    expect(a).toBe(b)
    expect(a).not.toBe(c)
  })

  it('lose literals and comments for the trace', () => {
    const clean = withoutLiterals(
      "SELECT 'sécret', E'\\x', 0x1F, 1.5, b'101', $1, $$s$$ /* secret */ FROM t -- secret\nWHERE a = 'ä'",
    )
    expect(clean).toBe('SELECT ?, ?, ?, ?, ?, $1, ?   FROM t  \nWHERE a = ?')
  })

  it.each([
    ["SELECT U&'s\\0065cret' UESCAPE '!'", 'SELECT ? UESCAPE ?'],
    ["SELECT 'one'\n  'two', 3", 'SELECT ?, ?'],
    ["SELECT e'it\\'s', 'it''s'", 'SELECT ?, ?'],
    ['SELECT $a$ $b$ $a$, a$b$c, "a\'b"', 'SELECT ?, a$b$c, "a\'b"'],
    ['SELECT a[1..2], t1.c2, .5, 5., 1e-3, 1_000', 'SELECT a[?..?], t1.c2, ?, ?, ?, ?'],
    ['SELECT /* a /* secret */ b */ 1', 'SELECT   ?'],
    ["SELECT 1 /*'*/, a-1, a--1\n, 'x'", 'SELECT ?  , a-?, a \n, ?'],
    ["SELECT é'x' , ö1", 'SELECT é? , ö1'],
  ])('%j without literals', (text, clean) => {
    expect(withoutLiterals(text)).toBe(clean)
    expect(scannedWithoutLiterals(text)).toBe(clean)
  })
})
