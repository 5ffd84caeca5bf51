// Writes docs/http-clients.md; needs `npm run build` and `npm ci --prefix test/clients`.
import { writeFileSync } from 'node:fs'
import { calls, versions } from './calls.mjs'
import { measureAll, renderTable } from './measure.mjs'

const file = new URL('../../docs/http-clients.md', import.meta.url)
writeFileSync(file, renderTable(await measureAll(Object.keys(calls)), versions()))
console.log('wrote docs/http-clients.md')
