import { beforeEach, describe, expect, it } from 'vitest'
import { client, live, postgresWorld } from '../../support/postgres-world.js'
import { guardPg } from './dry-pg.js'
import { leavesUnchanged } from './pg-world.js'

/* Procedures and DO blocks: those that only read are executed, under the lock; no other leaves a trace. */

const { dry, takeEffects, takeProblems } = guardPg()

postgresWorld(`
  CREATE EXTENSION pg_walinspect;
  CREATE TABLE orders (id bigserial PRIMARY KEY, total int);
  INSERT INTO orders (total) VALUES (10), (20), (5);
  CREATE FUNCTION twice(x int) RETURNS int LANGUAGE sql AS 'SELECT x * 2';
  CREATE FUNCTION add_order(x int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN INSERT INTO orders (total) VALUES (x); RETURN x; END $$;
  CREATE FUNCTION tries(x int) RETURNS text LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO orders (total) VALUES (x); RETURN 'added'; EXCEPTION WHEN others THEN RETURN 'not added'; END $$;
  CREATE FUNCTION tries_by_class(x int) RETURNS text LANGUAGE plpgsql AS $$ BEGIN
    PERFORM add_order(x); RETURN 'added'; EXCEPTION WHEN unique_violation OR SQLSTATE '25006' THEN RETURN 'not added'; END $$;
  CREATE FUNCTION asks_tries() RETURNS text LANGUAGE sql AS 'SELECT tries(1)';
  CREATE VIEW trying AS SELECT tries(1) AS outcome;
  CREATE FUNCTION in_body() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 7; END;
  CREATE FUNCTION reads_quietly() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN in_body(); EXCEPTION WHEN others THEN RETURN -1; END $$;
  CREATE FUNCTION "Add-one"() RETURNS int LANGUAGE sql AS 'INSERT INTO orders (total) VALUES (1) RETURNING 1';
  CREATE FUNCTION adds_quietly() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN "Add-one"(); EXCEPTION WHEN others THEN RETURN -1; END $$;
  CREATE VIEW numbered AS SELECT id, txid_current() AS at FROM orders;
  CREATE FUNCTION to_int(x text) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN x::int; EXCEPTION WHEN others THEN RETURN -1; END $$;
  CREATE FUNCTION known(x int) RETURNS text LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO orders (total) VALUES (x); RETURN 'added'; EXCEPTION WHEN unique_violation THEN RETURN 'known'; END $$;
  CREATE PROCEDURE sums(low int, OUT total int, INOUT label text) LANGUAGE plpgsql AS $$ BEGIN
    SELECT sum(o.total) INTO total FROM orders o WHERE o.total > low; label := label || '!'; RAISE NOTICE 'summed %', total; END $$;
  CREATE PROCEDURE silent_sum() LANGUAGE plpgsql AS $$ BEGIN PERFORM sum(total) FROM orders; END $$;
  CREATE PROCEDURE in_sql() LANGUAGE sql BEGIN ATOMIC SELECT count(*) FROM orders; END;
  CREATE PROCEDURE lower(x int, y int) LANGUAGE plpgsql AS $$ BEGIN INSERT INTO orders (total) VALUES (4); END $$;
  CREATE PROCEDURE writes(x int) LANGUAGE plpgsql AS $$ BEGIN INSERT INTO orders (total) VALUES (x); END $$;
  CREATE PROCEDURE gives(OUT n int, OUT at timestamptz) LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO orders (total) VALUES (1) RETURNING id INTO n; END $$;
  CREATE PROCEDURE calls_writes() LANGUAGE plpgsql AS $$ BEGIN CALL writes(1); END $$;
  CREATE PROCEDURE commits() LANGUAGE plpgsql AS $$ BEGIN COMMIT; INSERT INTO orders (total) VALUES (1); COMMIT; END $$;
  CREATE PROCEDURE rolls_back() LANGUAGE plpgsql AS $$ BEGIN ROLLBACK; INSERT INTO orders (total) VALUES (1); COMMIT; END $$;
  CREATE PROCEDURE commits_quietly() LANGUAGE plpgsql AS $$ BEGIN
    BEGIN COMMIT; EXCEPTION WHEN others THEN NULL; END; INSERT INTO orders (total) VALUES (1); EXCEPTION WHEN others THEN NULL; END $$;
  CREATE PROCEDURE takes_number() LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('orders_id_seq'); END $$;
  CREATE PROCEDURE sets_number() LANGUAGE sql AS $$ SELECT setval('orders_id_seq', 99) $$;
  CREATE PROCEDURE locks() LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_lock(5); END $$;
  CREATE PROCEDURE notifies() LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_notify('bodies', 'x'); END $$;
  CREATE PROCEDURE notifies_by_command() LANGUAGE plpgsql AS $$ BEGIN NOTIFY bodies; END $$;
  CREATE PROCEDURE unlocks_reading() LANGUAGE plpgsql AS $$ BEGIN
    PERFORM set_config('transaction_read_only', 'off', true); INSERT INTO orders (total) VALUES (1); END $$;
  CREATE PROCEDURE sets_mode() LANGUAGE plpgsql AS $$ BEGIN
    SET TRANSACTION READ WRITE; INSERT INTO orders (total) VALUES (1); END $$;
  CREATE PROCEDURE keeps_setting() LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config('drytrace.kept', 'yes', false); END $$;
  CREATE PROCEDURE makes_scratch() LANGUAGE plpgsql AS $$ BEGIN CREATE TEMP TABLE scratch (a int); END $$;
  CREATE PROCEDURE assigns_id() LANGUAGE plpgsql AS $$ BEGIN PERFORM txid_current(); END $$;
  CREATE PROCEDURE forgets() LANGUAGE plpgsql AS $$ BEGIN DEALLOCATE ALL; END $$;
  CREATE PROCEDURE foreign_language() LANGUAGE internal AS 'pg_advisory_unlock_all';
  CREATE PROCEDURE dynamic() LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'INSERT INTO orders (total) VALUES (1)'; END $$;
`)
const unchanged = leavesUnchanged(['orders'])

beforeEach(() => {
  takeEffects()
  takeProblems()
})

const outcomes = () => takeEffects().map(({ outcome, effect }) => `${outcome} ${effect}`)
const block = (body: string) => `DO $$ ${body} $$`

/** Notices of one dry statement. */
async function notices(text: string): Promise<string[]> {
  const heard: string[] = []
  const listen = ({ message }: { message?: string | undefined }) => heard.push(message ?? '')
  client.on('notice', listen)
  try {
    await dry(() => client.query(text))
  } finally {
    client.off('notice', listen)
  }
  return heard
}

describe('a procedure that only reads', () => {
  it('gives its row', async () => {
    const real = await live.query("CALL sums(5, NULL, 'a')")
    const { rows, command, fields } = await dry(() => client.query('CALL sums($1, NULL, $2)', [5, 'a']))
    expect({ rows, command }).toEqual({ rows: real.rows, command: real.command })
    expect(rows).toEqual([{ total: 30, label: 'a!' }])
    expect(fields.map(({ name, dataTypeID }) => [name, dataTypeID])).toEqual(
      real.fields.map(({ name, dataTypeID }) => [name, dataTypeID]),
    )
    expect(takeEffects()).toMatchObject([
      { outcome: 'allowed', effect: 'read', target: 'sums', summary: 'CALL sums()' },
    ])
  })

  it.each(['CALL silent_sum()', 'CALL in_sql()', 'BEGIN; CALL silent_sum(); COMMIT'])('%s runs', async (text) => {
    await dry(() => client.query(text))
    expect(outcomes()).toEqual(['allowed read'])
  })

  it('sends its notices', async () => {
    expect(await notices("CALL sums(5, NULL, 'a')")).toEqual(['summed 30'])
  })

  it('is told to have read what the run has changed', async () => {
    await dry(async () => {
      await client.query('UPDATE orders SET total = 0 WHERE id = 1')
      await client.query('CALL silent_sum()')
    })
    expect(takeProblems().map(({ message }) => message)).toEqual([
      expect.stringMatching(/^not overlaid: CALL sees the data as it is.*silent_sum\(\) may read/),
    ])
  })
})

describe('a block that only reads', () => {
  it.each([
    ['BEGIN NULL; END', []],
    ["DECLARE n int; BEGIN SELECT count(*) INTO n FROM orders; RAISE NOTICE 'n=%', n; END", ['n=3']],
    ["BEGIN FOR i IN 1..twice(1) LOOP RAISE NOTICE '%', i; END LOOP; END", ['1', '2']],
    [
      "DECLARE r record; BEGIN FOR r IN SELECT total FROM orders ORDER BY 1 LOOP RAISE NOTICE '%', r.total; END LOOP; END",
      ['5', '10', '20'],
    ],
    ["DECLARE a int[] := '{1,2}'; BEGIN a[twice(1)] := 7; RAISE NOTICE '%', a; END", ['{1,7}']],
    ['DECLARE n int; l text; BEGIN CALL sums(5, n, l); END', ['summed 30']],
  ])('%s', async (body, expected) => {
    expect(await notices(block(body))).toEqual(expected)
    expect(outcomes()).toEqual(['allowed read'])
  })

  it('fails as it would live', async () => {
    await expect(
      dry(() => client.query(block('BEGIN PERFORM 1 / (count(*) - 3) FROM orders; END'))),
    ).rejects.toMatchObject({
      code: '22012',
    })
    expect(outcomes()).toEqual(['allowed read'])
  })

  it('is told to have read what the run has changed', async () => {
    await dry(async () => {
      await client.query('DELETE FROM orders')
      await client.query(block('BEGIN PERFORM count(*) FROM public.orders; END'))
      await client.query(block('BEGIN PERFORM 1; END'))
    })
    expect(takeProblems().map(({ message }) => message)).toEqual([
      expect.stringMatching(/^not overlaid: DO public.orders sees the data as it is/),
    ])
  })
})

describe('what is not known to read alone', () => {
  const CALLS = [
    ...['CALL writes(1)', 'CALL calls_writes()', 'CALL commits()', 'CALL rolls_back()', 'CALL takes_number()'],
    ...['CALL sets_number()', 'CALL locks()', 'CALL notifies()', 'CALL notifies_by_command()', 'CALL makes_scratch()'],
    ...[
      'CALL dynamic()',
      'CALL commits_quietly()',
      'CALL assigns_id()',
      'CALL lower(1, 2)',
      'CALL forgets()',
      'CALL foreign_language()',
    ],
    ...["CALL writes(nextval('orders_id_seq')::int)", 'CALL writes(add_order(1))'],
  ]
  const BLOCKS = [
    ...['INSERT INTO orders (total) VALUES (1)', 'PERFORM add_order(1)', "PERFORM nextval('orders_id_seq')"],
    ...["EXECUTE 'DELETE FROM orders'", 'COMMIT', 'ROLLBACK; INSERT INTO orders (total) VALUES (1); COMMIT'],
    ...['PERFORM pg_advisory_lock(5)', "PERFORM pg_notify('bodies', 'x')", 'NOTIFY bodies', 'CALL locks()'],
    ...['LOCK TABLE orders', 'PERFORM 1 FROM orders FOR UPDATE', 'CREATE TEMP TABLE scratch (a int)', 'ANALYZE orders'],
    ...[
      "SET drytrace.kept = 'yes'",
      "PERFORM set_config('transaction_read_only', 'off', true)",
      'PERFORM txid_current()',
    ],
    ...['BEGIN INSERT INTO orders (total) VALUES (1); EXCEPTION WHEN others THEN NULL; END', 'PERFORM tries(1)'],
    ...['CALL commits()', 'CALL writes(1)', 'BEGIN COMMIT; EXCEPTION WHEN others THEN NULL; END'],
  ].map((body) => block(`BEGIN ${body}; END`))
  const HIDDEN = [
    'DO $$ DECLARE r orders := add_order(1); BEGIN NULL; END $$',
    'DO $$ DECLARE r record := (SELECT pg_advisory_lock(5)); BEGIN NULL; END $$',
    'DO $$ DECLARE c CURSOR (k int) FOR SELECT k; BEGIN OPEN c(add_order(1)); END $$',
    'DO $$ DECLARE c CURSOR FOR SELECT pg_advisory_lock(5); BEGIN OPEN c; FETCH c; END $$',
    "DO $$ DECLARE c refcursor; BEGIN OPEN c FOR EXECUTE 'SELECT pg_advisory_lock(5)'; FETCH c; END $$",
    "DO 'BEGIN INSERT INTO orders (total) VALUES (1); END' LANGUAGE plpgsql",
    "DO E'BEGIN IN\\\\x53ERT INTO orders (total) VALUES (1); END'",
  ]

  it.each([...CALLS, ...BLOCKS, ...HIDDEN])('%s is blocked and on record', async (text) => {
    const { command } = await dry(() => client.query(text))
    expect(command).toBe(text.startsWith('CALL') ? 'CALL' : 'DO')
    expect(outcomes()).toContain('blocked write')
  })

  it.each(['CALL unlocks_reading()', 'CALL sets_mode()'])(
    '%s fails: no transaction of the guard is unlocked',
    async (text) => {
      await expect(dry(() => client.query(text))).rejects.toMatchObject({ code: '25001' })
    },
  )

  it('a setting made in a procedure does not stay', async () => {
    await dry(() => client.query('CALL keeps_setting()'))
    expect((await client.query("SELECT current_setting('drytrace.kept', true) AS kept")).rows).not.toEqual([
      { kept: 'yes' },
    ])
  })

  it('inside a transaction too, and its COMMIT there fails as live', async () => {
    await dry(async () => {
      await client.query('BEGIN')
      await client.query('CALL writes(1)')
      await client.query('SELECT 1')
      await expect(client.query('CALL commits()')).rejects.toMatchObject({ code: '2D000' })
      await client.query('ROLLBACK')
    })
  })

  it('inside a transaction of live code too, which goes on', async () => {
    await client.query('BEGIN')
    await client.query("SET LOCAL drytrace.mine = 'x'")
    await dry(() => client.query('CALL writes(1)'))
    await dry(() => client.query('CALL silent_sum()'))
    await expect(dry(() => client.query('CALL sets_mode()'))).rejects.toMatchObject({ code: '25001' })
    expect(
      (
        await client.query(
          "SELECT current_setting('drytrace.mine') AS mine, current_setting('transaction_read_only') AS locked",
        )
      ).rows,
    ).toEqual([{ mine: 'x', locked: 'off' }])
    await client.query('ROLLBACK')
  })

  it('gives a row where it has parameters for output', async () => {
    const { rows, fields } = await dry(() => client.query('CALL gives(NULL, NULL)'))
    expect(fields.map(({ name }) => name)).toEqual(['n', 'at'])
    expect(rows).toEqual([{ n: expect.any(Number), at: expect.any(Date) }])
  })

  it('takes PostgreSQL at its word where it refuses the call', async () => {
    await expect(dry(() => client.query('CALL nothing(1)'))).rejects.toMatchObject({ code: '42883' })
  })
})

describe('a function that is silent about a refused write', () => {
  it.each([
    'SELECT tries(1)',
    'SELECT tries_by_class(1)',
    'SELECT asks_tries()',
    'SELECT adds_quietly()',
    'SELECT * FROM trying',
  ])('%s is a blocked write', async (text) => {
    await dry(() => client.query(text))
    expect(outcomes()).toContain('blocked write')
  })

  it.each([
    ["SELECT to_int('x') AS value", [{ value: -1 }]],
    ['SELECT twice(2) AS value', [{ value: 4 }]],
    ['SELECT reads_quietly() AS value', [{ value: 7 }]],
  ])('%s is a read: nothing in it writes', async (text, rows) => {
    expect((await dry(() => client.query(text))).rows).toEqual(rows)
    expect(outcomes()).toEqual(['allowed read'])
  })

  it('one that handles other errors only is refused by the server', async () => {
    await dry(() => client.query('SELECT known(1)'))
    expect(outcomes()).toEqual(['allowed read', 'blocked write'])
  })
})

describe('the id of a transaction', () => {
  it.each([
    'SELECT txid_current()',
    'SELECT txid_current()::text',
    'SELECT pg_current_xact_id()',
    'SELECT * FROM txid_current()',
    'SELECT t.* FROM pg_current_xact_id() AS t',
    'SELECT id, (SELECT txid_current()) FROM orders ORDER BY id',
    'SELECT count(*) FROM orders WHERE txid_current() > $1',
  ])('%s tells the next one and assigns none', async (text) => {
    const values = text.includes('$1') ? [0] : []
    await live.query('BEGIN')
    const real = await live.query(text, values)
    await live.query('ROLLBACK')
    await unchanged.renew()
    const before = (await live.query('SELECT txid_snapshot_xmax(txid_current_snapshot()) AS id')).rows[0].id
    const { rows, fields } = await dry(() => client.query(text, values))
    expect(fields.map(({ name, dataTypeID }) => [name, dataTypeID])).toEqual(
      real.fields.map(({ name, dataTypeID }) => [name, dataTypeID]),
    )
    expect(rows).toHaveLength(real.rows.length)
    if (values.length === 0) expect(Object.values(rows[0]).at(-1)).toBe(before)
    expect((await live.query('SELECT txid_snapshot_xmax(txid_current_snapshot()) AS id')).rows[0].id).toBe(before)
    expect(takeEffects()).toMatchObject([{ outcome: 'allowed', effect: 'read', reason: expect.anything() }])
  })

  it('is the one the transaction has', async () => {
    await client.query('BEGIN')
    const { rows } = await client.query('SELECT txid_current() AS id')
    expect((await dry(() => client.query('SELECT txid_current() AS id'))).rows).toEqual(rows)
    await client.query('ROLLBACK')
    await unchanged.renew()
  })

  it.each(['SELECT txid_status(txid_current())', 'SELECT * FROM ROWS FROM (txid_current(), txid_current()) AS t'])(
    '%s cannot be told: blocked',
    async (text) => {
      await dry(() => client.query(text))
      expect(outcomes()).toEqual(['blocked write'])
    },
  )

  it('a view over it is blocked', async () => {
    await dry(() => client.query('SELECT * FROM numbered'))
    expect(outcomes()).toContain('blocked write')
  })
})
