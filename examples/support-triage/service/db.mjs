import pg from 'pg'

/** @param {string} connectionString */
export function createDatabase(connectionString) {
  const pool = new pg.Pool({ connectionString, max: 8, idleTimeoutMillis: 5_000, application_name: 'support-triage' })
  // An idle connection that the server drops must not take the process down.
  pool.on('error', () => {})

  return {
    query: (text, values) => pool.query(text, values),

    /** Runs `work(client)` in one transaction; an error rolls it back and is rethrown. */
    async transaction(work) {
      const client = await pool.connect()
      try {
        await client.query('BEGIN')
        const result = await work(client)
        await client.query('COMMIT')
        return result
      } catch (error) {
        await client.query('ROLLBACK').catch(() => {})
        throw error
      } finally {
        client.release()
      }
    },

    end: () => pool.end(),
  }
}
