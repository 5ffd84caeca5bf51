import { createRequire } from 'node:module'
import path from 'node:path'
import type postgres from 'postgres'
import { postgresJsIntegration } from '../../../src/integrations/postgres-js/postgres-js.js'
import type { PolicyDocument } from '../../../src/policy/schema.js'
import { type DryPg, guardPg } from '../pg/dry-pg.js'

export interface DryPostgres extends DryPg {
  /** postgres.js, guarded as the loader would. */
  readonly postgres: typeof postgres
}

/** The CommonJS build in this process, patched in the order its files are evaluated in. Once per test file. */
export function guardPostgres(policy: Partial<PolicyDocument> = {}): DryPostgres {
  const dryPg = guardPg(policy)
  const require = createRequire(import.meta.url)
  const main = require.resolve('postgres')
  const { version } = require(path.join(main, '../../../package.json')) as { version: string }
  const patched = ['query.js', 'index.js'].map((name) => {
    const file = path.join(path.dirname(main), name)
    const target = postgresJsIntegration.targets.find((each) => each.file === `postgres/cjs/src/${name}`)
    return target?.patch(require(file), dryPg.guard, { file, version })
  })
  return { ...dryPg, postgres: patched[1] as typeof postgres }
}
