import type { Effect } from '../../guard/effect.js'
import type { Decision } from '../../guard/guard.js'
import type { Action } from '../../journal/record.js'
import { DEFAULT_READ } from '../../policy/policy.js'
import * as semconv from '../../semconv.js'
import type { Statement } from '../../sql/classify.js'

/** Where a client is connected to. */
export interface Endpoint {
  readonly host?: string
  readonly port?: number
  readonly database?: string
}

const ACTIONS: Readonly<Record<string, Action>> = {
  'COPY FROM': 'create',
  DELETE: 'delete',
  INSERT: 'create',
  MERGE: 'upsert',
  NOTIFY: 'publish',
  'TRUNCATE TABLE': 'delete',
  UPDATE: 'update',
}
const DEFINITIONS = /^(CREATE|ALTER|DROP|COMMENT|GRANT|REVOKE|SELECT INTO|IMPORT FOREIGN|REASSIGN|SECURITY LABEL)/

function actionOf(statement: Statement): Action {
  if (statement.denied.includes('pg_notify') && statement.kind === 'deny') return 'publish'
  const action = ACTIONS[statement.operation]
  if (action === 'create' && statement.upsert) return 'upsert'
  return action ?? (DEFINITIONS.test(statement.operation) ? 'ddl' : 'execute')
}

/** Statements that are executed, or that change nothing but the session. */
export function isRead(statement: Statement): boolean {
  switch (statement.kind) {
    case 'read':
    case 'unsure':
    case 'session':
    case 'txmode':
    case 'tx':
    case 'xid':
      return true
    case 'lock':
      return statement.node !== 'LockStmt'
    default:
      return false
  }
}

/** A call or block that only might read, and that a rule of the policy lets through whatever it does. */
export function isLetThrough({ node }: Statement, { verdict, error, rule }: Decision): boolean {
  return /^(Call|Do)Stmt$/.test(node) && verdict === 'allow' && error === undefined && rule !== DEFAULT_READ
}

/** The last effect of a statement that was judged before: most come from the same endpoint again. */
const recent = new WeakMap<Statement, { readonly endpoint: Endpoint; readonly effect: Effect }>()

/** What one statement would do. `culprit` is the function or view that makes a query a write. */
export function effectOf(statement: Statement, endpoint: Endpoint, culprit?: string): Effect {
  if (culprit !== undefined) return describe(statement, endpoint, culprit)
  const known = recent.get(statement)
  if (known !== undefined && sameEndpoint(known.endpoint, endpoint)) return known.effect
  const effect = describe(statement, endpoint)
  recent.set(statement, { endpoint: { ...endpoint }, effect })
  return effect
}

function sameEndpoint(left: Endpoint, right: Endpoint): boolean {
  return left.host === right.host && left.port === right.port && left.database === right.database
}

function describe(statement: Statement, endpoint: Endpoint, culprit?: string): Effect {
  if (statement.kind === 'unparsed') throw new Error(`the SQL cannot be judged: ${statement.error}`)
  const read = culprit === undefined && isRead(statement)
  const procedure = statement.node === 'CallStmt' ? statement.functions[0] : undefined
  const called = culprit ?? (statement.kind === 'deny' ? statement.denied[0] : procedure)
  const target = called ?? statement.relation ?? endpoint.database ?? 'postgresql'
  const summary =
    called === undefined
      ? [statement.operation, statement.relation].filter(Boolean).join(' ')
      : `${statement.operation} ${called}()`
  return {
    system: 'postgresql',
    kind: read ? 'read' : 'write',
    ...(read ? {} : { action: culprit === undefined ? actionOf(statement) : 'execute' }),
    target,
    summary,
    fingerprint: `postgresql:${statement.fingerprint}`,
    match: {
      relation: read ? statement.relation : soleRelation(statement, culprit),
      operation: statement.operation,
      function: called,
      database: endpoint.database,
      host: endpoint.host,
      port: endpoint.port === undefined ? undefined : String(endpoint.port),
    },
    attributes: attributesOf(statement, endpoint),
  }
}

/**
 * The relation a rule may speak for. A rule that lets one table be written
 * must not let through what else the same statement writes or calls.
 */
function soleRelation(statement: Statement, culprit: string | undefined): string | undefined {
  const sole = statement.writes.length === 1 && statement.denied.length === 0 && statement.unknown.length === 0
  return sole && culprit === undefined ? statement.writes[0] : undefined
}

function attributesOf(statement: Statement, endpoint: Endpoint): Effect['attributes'] {
  return {
    [semconv.ATTR_DB_SYSTEM]: 'postgresql',
    [semconv.ATTR_DB_NAMESPACE]: endpoint.database,
    [semconv.ATTR_DB_OPERATION]: statement.operation,
    [semconv.ATTR_DB_COLLECTION]: statement.relation,
    [semconv.ATTR_DB_QUERY_TEXT]: statement.safeText || undefined,
    [semconv.ATTR_SERVER_ADDRESS]: endpoint.host,
    [semconv.ATTR_SERVER_PORT]: endpoint.port,
  }
}
