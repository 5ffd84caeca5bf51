import { cpSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import path from 'node:path'
import { beforeEach, expect, it } from 'vitest'
import { ROOT, runNode } from '../../support/child.js'
import { observedPostgres, live as observer, server } from '../../support/postgres-world.js'
import { INDEX_URL, outputOf, scratchTree } from '../../support/scratch.js'

observedPostgres()

beforeEach(async () => {
  await observer.query('DROP TABLE IF EXISTS mark; CREATE TABLE mark (who text)')
})

const APP = `
  import pg from 'pg'
  import { armed, dryRun } from ${JSON.stringify(INDEX_URL)}
  const client = new pg.Client(process.env.PG_URL)
  await client.connect()
  const write = (who) => client.query('INSERT INTO mark VALUES ($1)', [who])
  const refused = await dryRun({}, () => write('dry')).then(() => undefined, (error) => error)
  await write('live')
  await client.end()
  console.log('OUT ' + JSON.stringify({ code: refused?.code, pg: armed().find(({ name }) => name === 'pg') }))
`

const installed = path.dirname(path.dirname(createRequire(import.meta.url).resolve('pg')))

/** A tree with a copy of pg in which every occurrence of a name is another. */
function doctoredTree(file: string, from: string, to: string): string {
  const directory = scratchTree({ 'app.mjs': APP })
  const copy = path.join(directory, 'node_modules/pg')
  cpSync(installed, copy, { recursive: true })
  for (const name of ['pg-types', 'pg-pool', 'pg-protocol', 'pg-connection-string', 'pgpass']) {
    symlinkSync(path.join(ROOT, 'node_modules', name), path.join(directory, 'node_modules', name))
  }
  for (const doctored of file === '*' ? ['client.js', 'query.js', 'connection.js'] : [file]) {
    const place = path.join(copy, 'lib', doctored)
    writeFileSync(place, readFileSync(place, 'utf8').replaceAll(from, to))
  }
  return directory
}

async function run(directory: string) {
  const finished = await runNode({
    register: true,
    file: path.join(directory, 'app.mjs'),
    cwd: directory,
    env: { PG_URL: server.url },
  })
  return outputOf<{ code?: string; pg: { status: string; detail?: string } }>(finished)
}

it.each([
  ['keeps its queries elsewhere', 'client.js', 'queryQueue', 'waiting', /keeps its queries elsewhere/],
  ['sends its queue by another method', 'client.js', '_pulseQueryQueue', '_sendQueued', /no _pulseQueryQueue/],
  ['calls the active query otherwise', 'client.js', 'ctiveQuery', 'ctiveCommand', /executed elsewhere/],
  ['has another connection', '*', 'sendCopyFail', 'failCopy', /Connection has no sendCopyFail/],
  ['has other queries', '*', 'requiresPreparation', 'wantsPreparation', /Query has no requiresPreparation/],
  ['prepares its values elsewhere', 'utils.js', 'prepareValue', 'wireValue', /pg\/lib\/utils/],
])('a pg that %s closes the gate; live it works as ever', async (_, file, from, to, detail) => {
  const tree = doctoredTree(file, from, to)
  if (file === 'utils.js') {
    for (const user of ['query.js', 'client.js', 'native/query.js', 'native/client.js']) {
      const place = path.join(tree, 'node_modules/pg/lib', user)
      writeFileSync(place, readFileSync(place, 'utf8').replaceAll(from, to))
    }
  }
  const { code, pg: state } = await run(tree)
  expect(state).toMatchObject({ status: 'failed', detail: expect.stringMatching(detail) })
  expect(code).toBe('DRY_GATE_CLOSED')
  expect((await observer.query('SELECT who FROM mark')).rows).toEqual([{ who: 'live' }])
})

it('an undoctored copy in the same tree is armed', async () => {
  const { code, pg: state } = await run(doctoredTree('client.js', 'no such text', ''))
  expect([code, state.status]).toEqual([undefined, 'armed'])
  expect((await observer.query('SELECT who FROM mark')).rows).toEqual([{ who: 'live' }])
})
