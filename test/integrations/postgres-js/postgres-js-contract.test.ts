// biome-ignore-all lint/suspicious/noTemplateCurlyInString: sources of programs, as the contract suite wants them
import { describeContract } from '../../support/contract.js'
import { startContractPostgres } from '../../support/postgres-contract.js'

const FIXED = `
  create table fixed (id int primary key, name text, age int, tags text[], doc jsonb, at timestamptz);
  insert into fixed values (1, 'Ada', 36, '{a,"b,c"}', '{"x": 1}', '2024-01-02T03:04:05Z'), (2, 'Grace', 45, '{}', null, null), (3, 'Edsger', 41, null, '[]', null);
`

describeContract({
  name: 'postgres',
  system: 'postgresql',
  startWorld: () => startContractPostgres(FIXED),
  setup: `
    const loaded = await load('postgres')
    const postgres = loaded.default ?? loaded
    const { setTimeout: sleep } = await import('node:timers/promises')
    const { pipeline } = await import('node:stream/promises')
    const { Readable } = await import('node:stream')
    const sql = postgres(env.DATABASE_URL, { max: 2, onnotice() {} })
    const pick = (result) => ({
      command: result.command, count: result.count, rows: [...result],
      columns: result.columns?.map(({ name, type, table, number }) => [name, type, table > 0, number]),
    })
    const portions = async (query, size) => {
      const sizes = []
      for await (const rows of query.cursor(size)) sizes.push(rows.length)
      return sizes
    }
    const text = async (stream) => { let all = ''; for await (const chunk of stream) all += chunk; return all }
  `,
  reads: {
    text: 'sql`select id, name from fixed order by id limit 2`.then(pick)',
    'all types': 'sql`select * from fixed order by id`.then(pick)',
    parameters: 'sql`select name from fixed where age > ${40} order by id`.then(pick)',
    'the same, prepared': 'sql`select name from fixed where age > ${41} order by id`.then(pick)',
    'not prepared': `sql.unsafe('select name from fixed where id = $1', [1]).then(pick)`,
    'several statements': `sql.unsafe('select 1 as one; select name from fixed where id = 2').then((results) => results.map((rows) => [...rows]))`,
    helpers:
      "sql`select ${sql(['id', 'name'])} from ${sql('fixed')} where id in ${sql([1, 3])} ${sql`order by id desc`}`.then(pick)",
    'an array parameter': "sql`select id from fixed where name = any(${['Ada', 'Grace']}) order by id`.then(pick)",
    values: 'sql`select id, name from fixed order by id limit 1`.values().then((rows) => [...rows])',
    raw: 'sql`select id, name from fixed order by id limit 1`.raw().then((rows) => rows.map((row) => row.map(String)))',
    simple: 'sql`select id from fixed order by id`.simple().then(pick)',
    describe:
      'sql`select id, name from fixed where id = ${1}`.describe().then(({ types, columns }) => ({ types, columns: columns.map(({ name, type }) => [name, type]) }))',
    forEach:
      '(async () => { const seen = []; const result = await sql`select id from fixed order by id`.forEach((row) => seen.push(row.id)); return [seen, result.count, result.command] })()',
    cursor: 'portions(sql`select generate_series(1, 10)`, 4)',
    'cursor, exact': 'portions(sql`select generate_series(1, 8)`, 4)',
    'cursor with a function':
      '(async () => { const seen = []; await sql`select generate_series(1, 5) as n`.cursor(2, (rows) => { seen.push(rows.map(({ n }) => n)) }); return seen })()',
    'cursor, closed early': `(async () => { let seen = 0; await sql\`select generate_series(1, 20000)\`.cursor(10, () => { if (++seen === 2) return sql.CLOSE }); return [seen, pick(await sql\`select 1 as one\`)] })()`,
    'COPY TO': '(async () => text(await sql`copy (select id, name from fixed order by id) to stdout`.readable()))()',
    reserve:
      '(async () => { const own = await sql.reserve(); try { return pick(await own`select 1 as one`) } finally { own.release() } })()',
    'in a transaction': 'sql.begin(async (tx) => pick(await tx`select 1 as one`))',
    'a real error':
      'sql`select nothing from fixed`.then(() => "no error", ({ name, code, severity, position, routine }) => ({ name, code, severity, position, routine }))',
    'an error of a value': 'sql`select ${"x"}::int`.then(() => "no error", ({ code, message }) => ({ code, message }))',
    'an undefined value': 'sql`select ${undefined}`.then(() => "no error", ({ code }) => code)',
    'an empty text': `sql.unsafe('').then(pick)`,
    parallel: 'Promise.all(Array.from({ length: 20 }, (_, n) => sql`select ${n}::int as n`.then(([row]) => row.n)))',
  },
  writes: {
    INSERT: "sql`insert into person (name) values ('x')`.then(pick)",
    'INSERT with parameters, RETURNING':
      'sql`insert into person ${sql({ name: "y", age: 5, tags: sql.json({ a: 1 }) })} returning id, name, age, tags, seen`.then(pick)',
    'INSERT of several':
      'sql`insert into person ${sql([{ name: "p", age: 1 }, { name: "q", age: 2 }], "name", "age")}`.then(pick)',
    'UPDATE, RETURNING *': "sql`update person set ${sql({ age: 50 })} where name = ${'Ada'} returning *`.then(pick)",
    'DELETE by unsafe': `sql.unsafe('delete from visit where person_id = $1', [99]).then(pick)`,
    'simple text': `sql.unsafe("insert into person (name) values ('z') returning name").then(pick)`,
    upsert:
      "sql`insert into counter values ('a', 1) on conflict (key) do update set n = counter.n + 1 returning key, n`.then(pick)",
    'writing CTE':
      'sql`with moved as (update person set age = 1 where id = 3 returning id) select count(*)::int as n from moved`.then(pick)',
    'in a transaction':
      'sql.begin(async (tx) => pick(await tx`insert into visit (person_id) values (1) returning person_id`))',
    'in a savepoint':
      'sql.begin((tx) => tx.savepoint(async (inner) => pick(await inner`insert into visit (person_id) values (2) returning person_id`)))',
    'on a reserved connection':
      '(async () => { const own = await sql.reserve(); try { return pick(await own`update person set age = 3 where id = 1`) } finally { own.release() } })()',
    'two statements in one text': `sql.unsafe('update person set age = 2 where id = 1; delete from visit where id < 0').then((results) => results.map(pick))`,
    'by a cursor':
      '(async () => { const names = []; await sql`insert into person (name) values (${"c1"}), (${"c2"}) returning name`.cursor(1, ([row]) => { names.push(row.name) }); return names })()',
    forEach:
      '(async () => { const seen = []; await sql`insert into person (name) values (${"f"}) returning name`.forEach((row) => seen.push(row)); return seen })()',
    'COPY FROM':
      '(async () => { const stream = await sql`copy person (name, age) from stdin`.writable(); await pipeline(Readable.from(["k\\t1\\n", "l\\t2\\n"]), stream); return "done" })()',
    'writing function': "sql`select nextval('person_id_seq') > 0 as moved`.then(pick)",
    notify: `sql.notify('somewhere', 'news').then(pick)`,
    DDL: 'sql`create table if not exists made_up (id int)`.then(pick)',
    TRUNCATE: 'sql`truncate visit`.then(pick)',
    file: `(async () => { const { writeFileSync } = await import('node:fs'); const file = env.DRYTRACE_JOURNAL + '.sql'; writeFileSync(file, 'update person set age = 7 where id = 2'); return pick(await sql.file(file)) })()`,
  },
  effectsPerWrite: { 'two statements in one text': 2 },
  teardown: 'await sql.end()',
})
