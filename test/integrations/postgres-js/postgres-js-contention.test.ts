import { expect, it } from 'vitest'
import { expectKeptApart } from '../../support/postgres-contention.js'
import { observedPostgres } from '../../support/postgres-world.js'

observedPostgres()

/** Ways of making one insert; each resolves to the number of rows. */
const STYLES = `
  const styles = [
    (who, n) => sql\`INSERT INTO marks (who, n) VALUES (\${who}, \${n})\`.then(({ count }) => count),
    (who, n) => sql.unsafe("INSERT INTO marks (who, n) VALUES ('" + who + "', " + n + ')').then(({ count }) => count),
    (who, n) => sql.begin(async (tx) => (await tx\`INSERT INTO marks \${tx({ who, n })} RETURNING id\`).length),
    (who, n) => sql.begin((tx) => tx.savepoint(async (inner) => (await inner\`INSERT INTO marks \${sql({ who, n })}\`).count)),
    async (who, n) => {
      const own = await sql.reserve()
      try { return (await own\`INSERT INTO marks (who, n) VALUES (\${who}, \${n})\`).count } finally { own.release() }
    },
    async (who, n) => {
      let rows = 0
      await sql\`INSERT INTO marks (who, n) VALUES (\${who}, \${n}) RETURNING id\`.forEach(() => { rows++ })
      return rows
    },
    async (who, n) => {
      let rows = 0
      for await (const portion of sql\`INSERT INTO marks (who, n) VALUES (\${who}, \${n}) RETURNING id\`.cursor(10)) rows += portion.length
      return rows
    },
  ]`

it.each([
  [1, 'module'],
  [3, 'commonjs'],
] as const)('%i connections keep live and dry callers apart (%s)', { timeout: 120_000 }, async (max, type) => {
  const more = await expectKeptApart({
    type,
    max,
    rounds: 2,
    callers: 60,
    load: type === 'module' ? "import postgres from 'postgres'" : "const postgres = require('postgres')",
    setup: `
      const sql = postgres(process.env.PG_URL, { max: Number(process.env.MAX) })
      ${STYLES}
      const insert = (who, n) => styles[n % styles.length](who, n)`,
    teardown: `
      const [{ open }] = await sql\`SELECT count(*)::int AS open FROM pg_stat_activity WHERE application_name = 'postgres.js'\`
      more.bounded = open <= 2 * Number(process.env.MAX)
      await sql.end()`,
  })
  expect(more).toEqual({ bounded: true })
})
