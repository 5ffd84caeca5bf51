import {
  ATTR_EFFECT,
  ATTR_ENABLED,
  ATTR_HOOK_NAME,
  ATTR_OUTCOME,
  ATTR_PREVIEW_DIFF,
  ATTR_RUN_ID,
  ATTR_SYSTEM,
} from '../../src/semconv.js'
import { Trace, type Values } from './otlp.js'

const marked = (values: Values): Values => ({ [ATTR_ENABLED]: true, [ATTR_RUN_ID]: 'run-1', ...values })
const guard = (system: string, effect: string, outcome: string): Values =>
  marked({ [ATTR_HOOK_NAME]: system, [ATTR_SYSTEM]: system, [ATTR_EFFECT]: effect, [ATTR_OUTCOME]: outcome })
const sql = (text: string): Values => ({ 'db.system.name': 'postgresql', 'db.query.text': text })
const http = (method: string, url: string): Values => ({
  'http.request.method': method,
  'url.full': url,
  'server.address': new URL(url).hostname,
})

/** One trace for each kind of service a gateway meets; the key is the name of the service. */
export function scenarios(): Record<'guarded' | 'witness' | 'vanilla' | 'mixed' | 'live', Trace> {
  // A service with the guard. Beside each span of the guard is the client library's own.
  const guarded = new Trace()
    .add('guarded: entry', marked({}), { kind: 'server', parent: null })
    .add('guarded: blocked insert', {
      ...guard('postgresql', 'write', 'blocked'),
      [ATTR_PREVIEW_DIFF]: '[{"field":"email","after":"ada@example.com"}]',
    })
    .add(
      'guarded: blocked insert, by the library',
      marked({ ...sql('INSERT INTO t VALUES (1)'), [ATTR_OUTCOME]: 'blocked' }),
    )
    .add('guarded: failed update', guard('postgresql', 'unknown', 'failed'), { kind: 'internal' })
    .add('guarded: failed update, by the library', marked({ ...sql('UPDATE t SET a = 1'), [ATTR_OUTCOME]: 'failed' }))
    .add('guarded: allowed write', guard('http', 'write', 'allowed'))
    .add(
      'guarded: allowed write, by the library',
      marked({ ...http('PUT', 'https://stats.example/x'), [ATTR_OUTCOME]: 'allowed' }),
    )
    .add('guarded: forward', guard('http', 'write', 'forwarded'))
    .add(
      'guarded: forward, by the library',
      marked({ ...http('POST', 'https://peer.example/x'), [ATTR_OUTCOME]: 'forwarded' }),
    )
    .add('guarded: allowed read', guard('postgresql', 'read', 'allowed'))
    .add('guarded: allowed read, by the library', marked({ ...sql('SELECT 1'), [ATTR_OUTCOME]: 'allowed' }))
    .add('guarded: inference', guard('http', 'read', 'allowed'))
    .add(
      'guarded: inference, by the library',
      marked({ ...http('POST', 'https://llm.example/v1'), [ATTR_OUTCOME]: 'allowed' }),
    )
    .add(
      'guarded: inference, known only as a read',
      marked({ ...http('POST', 'https://llm.example/v1'), [ATTR_EFFECT]: 'read' }),
    )
    .add('guarded: read that was only marked', marked(sql('SELECT 1')))

  // The guard's own witness saw a write that no hook decided on; and a hook that began and never decided.
  const witness = new Trace()
    .add('witness: entry', marked({}), { kind: 'server', parent: null })
    .add(
      'witness: unblocked insert',
      marked({ ...sql('INSERT INTO t VALUES (1)'), [ATTR_SYSTEM]: 'postgresql', [ATTR_OUTCOME]: 'unblocked' }),
    )
    .add('witness: undecided', marked({ [ATTR_HOOK_NAME]: 'redis', [ATTR_SYSTEM]: 'redis', [ATTR_EFFECT]: 'write' }))

  // A service with nothing but stock instrumentation: the tracestate is all that says it is dry.
  const traceState = 'other=x,drytrace=1:run-9'
  const vanilla = new Trace().add('vanilla: entry', {}, { kind: 'server', parent: '00f067aa0ba902b7', traceState })
  for (const [name, attributes] of Object.entries<Values>({
    'vanilla: insert': sql("INSERT INTO people (mail) VALUES ('ada@example.com')"),
    'vanilla: old insert': { 'db.system': 'mysql', 'db.statement': '/* job */ insert into t values (1)' },
    'vanilla: cte': sql('WITH d AS (DELETE FROM t RETURNING *) SELECT * FROM d'),
    'vanilla: redis set': { 'db.system.name': 'redis', 'db.operation.name': 'SET' },
    'vanilla: mongo': { 'db.system.name': 'mongodb', 'db.operation.name': 'updateOne' },
    'vanilla: publish': { 'messaging.system': 'kafka', 'messaging.operation.type': 'send' },
    'vanilla: aws': { 'rpc.system': 'aws-api', 'rpc.method': 'PutItem' },
    'vanilla: delete': http('DELETE', 'https://crm.example/contacts/1'),
    'vanilla: post': http('POST', 'https://crm.example/contacts'),
    'vanilla: path like an internal host': http('POST', 'https://crm.example/a.internal/x'),
    'vanilla: internal post': http('POST', 'http://billing.svc.cluster.local:8080/x'),
    'vanilla: internal post, old names': { 'http.method': 'POST', 'http.url': 'http://billing.internal:8080/x' },
    'vanilla: select': sql('SELECT 1'),
    'vanilla: sql set': sql('SET statement_timeout = 5'),
    'vanilla: redis get': { 'db.system.name': 'redis', 'db.operation.name': 'GET' },
    'vanilla: get': http('GET', 'https://crm.example/contacts'),
    'vanilla: tokens': { 'gen_ai.usage.input_tokens': 12, access_token: 'abc' },
  })) {
    vanilla.add(name, attributes, { traceState })
  }

  // A dry run in the middle: a live caller above it, a service below it that dropped the flag.
  const mixed = new Trace()
    .add('mixed: live caller', http('POST', 'https://guarded.example/'), { parent: null })
    .add('mixed: entry', marked({}), { kind: 'server' })
    .add('mixed: insert without the flag', sql('INSERT INTO t VALUES (1)'))

  // Not a dry run at all. drytrace=0 and dry_run=false say so in words.
  const live = new Trace()
    .add('live: entry', { 'baggage.dry_run': 'false' }, { kind: 'server', parent: null, traceState: 'drytrace=0' })
    .add('live: insert', sql('INSERT INTO t VALUES (1)'))
    .add('live: post', http('POST', 'https://crm.example/contacts'))

  return { guarded, witness, vanilla, mixed, live }
}
