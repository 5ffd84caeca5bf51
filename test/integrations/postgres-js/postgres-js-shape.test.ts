import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import path from 'node:path'
import { expect, it } from 'vitest'
import { DIST, runNode, scratchDirectory } from '../../support/child.js'

const require = createRequire(import.meta.url)
const LIBRARY = path.join(path.dirname(require.resolve('postgres')), '../..')

/** Reads what an unchanged copy and a changed one say of themselves, and what a dry run gets. */
async function judge(
  change: { file: string; from: string | RegExp; to: string } | undefined,
  type: 'module' | 'commonjs',
) {
  const directory = scratchDirectory()
  const copy = path.join(directory, 'node_modules/postgres')
  mkdirSync(copy, { recursive: true })
  cpSync(LIBRARY, copy, { recursive: true })
  if (change !== undefined) {
    const file = path.join(copy, change.file)
    const source = readFileSync(file, 'utf8')
    const changed = source.replace(change.from, change.to)
    expect(changed).not.toBe(source)
    writeFileSync(file, changed)
  }
  const file = path.join(directory, type === 'module' ? 'program.mjs' : 'program.cjs')
  writeFileSync(
    file,
    `${type === 'module' ? "import postgres from 'postgres'" : "const postgres = require('postgres')"}
     async function main() {
       const { armed, dryRun } = await import(${JSON.stringify(`${DIST}/index.js`)})
       const sql = postgres('postgres://nobody:x@127.0.0.1:1/nowhere', { connect_timeout: 2 })
       const code = await dryRun({ id: 'shape' }, () => sql\`DELETE FROM t\`).then(() => 'ok', (error) => error.code)
       const { status } = armed().find(({ name }) => name === 'postgres')
       console.log(JSON.stringify({ code, status }))
       process.exit(0)
     }
     main()`,
  )
  const finished = await runNode({ register: true, file, env: { DRYTRACE_JOURNAL: path.join(directory, 'journal') } })
  expect(finished.stderr).toBe('')
  return JSON.parse(finished.stdout) as { code: string; status: string }
}

it.each(['module', 'commonjs'] as const)('a copy of a known shape is armed: %s', async (type) => {
  expect(await judge(undefined, type)).toEqual({ code: 'ECONNREFUSED', status: 'armed' })
})

it.each([
  [
    'another way to export',
    { file: 'src/index.js', from: 'export default Postgres', to: 'export default (Postgres)' },
    'module',
    'failed',
  ],
  [
    'another query class',
    { file: 'src/query.js', from: /async handle\(\)/, to: 'async handling()' },
    'module',
    'failed',
  ],
  [
    'queries that are no promises of ours',
    { file: 'cjs/src/query.js', from: 'extends Promise', to: 'extends (class extends Promise {})' },
    'commonjs',
    'failed',
  ],
  ['no reserve', { file: 'cjs/src/index.js', from: '    reserve,\n', to: '' }, 'commonjs', 'failed'],
  ['other options', { file: 'src/index.js', from: 'typeArrayMap: {}', to: 'arrayTypes: {}' }, 'module', 'failed'],
  [
    'another version',
    { file: 'package.json', from: /"version": "3\.[^"]*"/, to: '"version": "4.0.0"' },
    'module',
    'unsupported version',
  ],
] as const)('a library with %s closes the gate', async (_name, change, type, status) => {
  expect(await judge(change, type)).toEqual({ code: 'DRY_GATE_CLOSED', status })
})
