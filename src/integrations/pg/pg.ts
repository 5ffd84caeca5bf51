import type { Effect } from '../../guard/effect.js'
import type { Hook } from '../../guard/guard.js'
import { classify, worstKind } from '../../sql/classify.js'
import type { Copy, Integration } from '../integration.js'
import { patchClient } from './client.js'
import type { Field } from './driver.js'
import { type Endpoint, effectOf } from './effect.js'
import { patchNative } from './native.js'
import { patchBinding } from './native-binding.js'
import { patchPool } from './pool.js'
import { type SimulatedResult, simulateStatement } from './simulate.js'

/** One `client.query` call, as far as it says itself. */
export interface PgCall {
  /** One statement. */
  readonly text: string
  readonly values?: readonly unknown[]
  readonly endpoint?: Endpoint
  /** Columns of the result, as the server describes them. */
  readonly fields?: readonly Field[]
}

function hookOf(copy: Copy): Hook {
  return { name: 'pg', version: copy.version }
}

function nativeHook(copy: Copy): Hook {
  return { name: 'pg-native', version: copy.version }
}

function classifyCall(call: PgCall): Effect {
  const statements = classify(call.text)
  const worst = statements.find((statement) => statement.kind === worstKind(statements))
  if (worst === undefined) throw new Error('the SQL has no statement')
  return effectOf(worst, call.endpoint ?? {})
}

function simulateCall(call: PgCall): SimulatedResult {
  const [statement] = classify(call.text)
  if (statement === undefined) throw new Error('the SQL has no statement')
  let ids = 2_000_000_000
  return simulateStatement({
    statement,
    values: call.values ?? [],
    fields: call.fields,
    syntheticId: (kind) =>
      kind === 'integer' ? String(ids++) : `d27ace00-0000-4000-8000-${String(ids++).padStart(12, '0')}`,
  })
}

/** node-postgres. Its SQL grammar is loaded with the first dry statement and must be there for `classify`. */
export const pgIntegration: Integration<PgCall, SimulatedResult> = {
  name: 'pg',
  system: 'postgresql',
  versions: '>=8.11 <9',
  targets: [
    {
      file: 'pg/lib/client.js',
      patch: (Client, guard, copy) => patchClient(Client, guard, hookOf(copy), copy.file),
    },
    {
      file: 'pg/lib/native/client.js',
      patch: (Client, guard, copy) => patchNative(Client, guard, hookOf(copy), copy.file),
    },
  ],
  classify: classifyCall,
  simulate: simulateCall,
  docs:
    'Everything that passes Client.query, cursors, query streams, COPY streams, pipeline mode and pg-native included: ' +
    'reads run in a READ ONLY transaction that is rolled back, writes are previewed as a SELECT. Refused in a dry ' +
    'run: COPY in both directions at once, and COPY or pipeline mode over pg-native.',
}

/** pg-pool hands connections on; it makes no effects of its own. */
export const pgPoolIntegration: Integration<PgCall, SimulatedResult> = {
  name: 'pg-pool',
  system: 'postgresql',
  versions: '>=3.6 <4',
  targets: [{ file: 'pg-pool/index.js', patch: (Pool, guard) => patchPool(Pool, guard) }],
  classify: classifyCall,
  simulate: simulateCall,
  docs: 'Keeps dry and live callers of one pool apart.',
}

/** libpq's binding, where it is used without pg. */
export const pgNativeIntegration: Integration<PgCall, SimulatedResult> = {
  name: 'pg-native',
  system: 'postgresql',
  versions: '>=3.3 <4',
  targets: [
    { file: 'pg-native/index.js', patch: (Client, guard, copy) => patchBinding(Client, guard, nativeHook(copy)) },
  ],
  classify: classifyCall,
  simulate: simulateCall,
  docs: 'Guarded through pg (`pg.native`); used without it, every statement is refused in a dry run.',
}
