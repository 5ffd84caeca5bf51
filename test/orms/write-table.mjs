// Writes docs/postgres-libraries.md; needs `npm run build` and `npm ci --ignore-scripts --prefix test/orms`.
import { writeFileSync } from 'node:fs'
import { measureAll, renderTable, versions } from './measure.mjs'

const file = new URL('../../docs/postgres-libraries.md', import.meta.url)
writeFileSync(file, renderTable(await measureAll(), versions()))
console.log('wrote docs/postgres-libraries.md')
