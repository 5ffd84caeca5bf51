import type { Hook } from '../../guard/guard.js'
import type { Bindings, Copy, Integration } from '../integration.js'
import { type PgCall, pgIntegration } from '../pg/pg.js'
import type { SimulatedResult } from '../pg/simulate.js'
import { patchFactory } from './instance.js'
import { patchQuery } from './routing.js'

function hookOf(copy: Copy): Hook {
  return { name: 'postgres', version: copy.version }
}

/** postgres.js: both of its builds. Statements are judged and simulated as node-postgres's are. */
export const postgresJsIntegration: Integration<PgCall, SimulatedResult> = {
  name: 'postgres',
  system: 'postgresql',
  versions: '>=3.4 <4',
  targets: [
    {
      file: 'postgres/src/query.js',
      bindings: ['Query'],
      patch: ({ Query }: Bindings, guard, copy) => patchQuery(Query, guard, hookOf(copy)),
    },
    {
      file: 'postgres/src/index.js',
      bindings: ['Postgres'],
      defaultExport: 'Postgres',
      patch: ({ Postgres }: Bindings, guard, copy) => patchFactory(Postgres, guard, hookOf(copy)),
    },
    {
      file: 'postgres/cjs/src/query.js',
      patch: ({ Query }: Bindings, guard, copy) => patchQuery(Query, guard, hookOf(copy)),
    },
    {
      file: 'postgres/cjs/src/index.js',
      patch: (Postgres: Bindings, guard, copy) => patchFactory(Postgres, guard, hookOf(copy)),
    },
  ],
  classify: pgIntegration.classify,
  simulate: pgIntegration.simulate,
  docs:
    'Every query of an instance, its transactions and reserved connections: in a dry run they go over READ ONLY ' +
    "connections of the run's own. COPY FROM is counted. Refused in a dry run: subscribe, binary COPY FROM, and " +
    'transactions or reserved connections that live code opened. PgBouncer must let default_transaction_read_only through.',
}
