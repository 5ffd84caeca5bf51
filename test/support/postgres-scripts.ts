import type { Client } from 'pg'

/** One statement with its parameters. */
export type Step = [text: string, values?: unknown[]]

/** What the caller of a statement gets, and what the tables hold after it. */
export interface StepOutcome {
  readonly statement: string
  readonly result: unknown
  readonly tables: unknown
}

/** Runs a script and notes what comes of each statement. A failing one leaves the others as they are. */
export async function runScript(
  client: Client,
  script: readonly Step[],
  tables: readonly string[],
  inTransaction: boolean,
): Promise<StepOutcome[]> {
  const outcomes: StepOutcome[] = []
  for (const [statement, values = []] of script) {
    if (inTransaction) await client.query('SAVEPOINT step')
    let result: unknown
    try {
      const { command, rowCount, rows } = await client.query(statement, values)
      result = { command, rowCount, rows }
    } catch (error) {
      if (inTransaction) await client.query('ROLLBACK TO SAVEPOINT step')
      const { code, message } = error as { code?: string; message: string }
      result = { code, message }
    }
    const contents: Record<string, unknown> = {}
    for (const table of tables) {
      const { rows } = await client.query({ text: `SELECT * FROM ${table}`, rowMode: 'array' })
      contents[table] = rows.map((row) => JSON.stringify(row)).sort()
    }
    outcomes.push({ statement, result, tables: contents })
  }
  return outcomes
}

/** The same for real, undone afterwards. */
export async function runForReal(
  client: Client,
  script: readonly Step[],
  tables: readonly string[],
): Promise<StepOutcome[]> {
  await client.query('BEGIN')
  try {
    return await runScript(client, script, tables, true)
  } finally {
    await client.query('ROLLBACK')
  }
}
