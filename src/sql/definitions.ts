import type { AlterTableCmd, Constraint, Node, RangeVar } from '@pgsql/types'
import { commandTag } from './command-tag.js'
import { nameParts, quoteName, quoteText, tagOf, walk } from './tree.js'

/** What a definition does to a table that is there. */
interface Impact {
  readonly relation: string
  readonly lock: Lock
  /** The table's rows are written anew, only read, or neither; `maybe` where the types decide. */
  readonly work: 'rewrites' | 'may rewrite' | 'reads' | undefined
  /** Rows are lost. */
  readonly drops?: boolean
}

const LOCKS = [
  'ACCESS SHARE',
  'SHARE UPDATE EXCLUSIVE',
  'SHARE',
  'SHARE ROW EXCLUSIVE',
  'EXCLUSIVE',
  'ACCESS EXCLUSIVE',
] as const
type Lock = (typeof LOCKS)[number]

/**
 * What a definition (DDL) would create, lock and rewrite, one sentence each,
 * with the sizes of the tables; undefined when the statement is none we know.
 */
export async function describeDefinition(
  node: Node,
  rows: (query: string) => Promise<(string | null)[][]>,
): Promise<string[] | undefined> {
  const impacts = impactsOf(node)
  if (impacts === undefined) return undefined
  const command = commandTag(node)
  const notes: string[] = []
  const made = createdBy(node)
  if (made !== undefined) notes.push(`would create ${made}`)
  for (const impact of impacts) {
    const [size] = await rows(sizeQuery(impact.relation))
    const where = `${command} on ${impact.relation}`
    if (size?.[0] == null) {
      notes.push(`${where}: there is no such relation now; an earlier statement of this run may have made it`)
      continue
    }
    const about = `about ${size[1]} ${size[1] === '1' ? 'row' : 'rows'}, ${size[2]}`
    const work = impact.work === undefined ? 'does not rewrite it' : `${impact.work} all of it`
    notes.push(
      impact.drops
        ? `${where} takes ${impact.lock} and drops it (${about})`
        : `${where} takes ${impact.lock} and ${work} (${about})`,
    )
  }
  return notes
}

/** Name, rows and size of the table behind a relation, which may be an index. */
function sizeQuery(relation: string): string {
  return `SELECT c.oid::regclass::text,
  CASE WHEN c.reltuples < 0 THEN pg_stat_get_live_tuples(c.oid) ELSE c.reltuples::bigint END::text,
  pg_size_pretty(pg_total_relation_size(c.oid))
FROM pg_class c LEFT JOIN pg_index i ON i.indexrelid = to_regclass(${quoteText(relation)})
WHERE c.oid = coalesce(i.indrelid, to_regclass(${quoteText(relation)}))`
}

function named(relation: RangeVar | undefined): string {
  const schema = relation?.schemaname ? `${quoteName(relation.schemaname)}.` : ''
  return schema + quoteName(relation?.relname ?? '')
}

function createdBy(node: Node): string | undefined {
  const [value] = Object.values(node) as { relation?: RangeVar; view?: RangeVar; idxname?: string }[]
  switch (tagOf(node)) {
    case 'CreateStmt':
      return `table ${named(value?.relation)}`
    case 'ViewStmt':
      return `view ${named(value?.view)}`
    case 'IndexStmt':
      return `index ${value?.idxname ?? ''} on ${named(value?.relation)}`.replace('  ', ' ')
    default:
      return undefined
  }
}

function impactsOf(node: Node): Impact[] | undefined {
  if ('AlterTableStmt' in node) {
    const { relation, cmds } = node.AlterTableStmt
    const commands = (cmds ?? []).flatMap((item) => ('AlterTableCmd' in item ? [item.AlterTableCmd] : []))
    const each = commands.map(impactOfCommand)
    const lock = LOCKS[Math.max(1, ...each.map((impact) => LOCKS.indexOf(impact.lock)))] ?? 'ACCESS EXCLUSIVE'
    const order = ['rewrites', 'may rewrite', 'reads'] as const
    const work = order.find((kind) => each.some((impact) => impact.work === kind))
    return [{ relation: named(relation), lock, work }, ...referenced(commands)]
  }
  if ('IndexStmt' in node) {
    const { relation, concurrent } = node.IndexStmt
    return [{ relation: named(relation), lock: concurrent ? 'SHARE UPDATE EXCLUSIVE' : 'SHARE', work: 'reads' }]
  }
  if ('CreateStmt' in node) return referenced(node.CreateStmt.tableElts)
  if ('ViewStmt' in node) return []
  if ('RenameStmt' in node && node.RenameStmt.relation !== undefined) {
    return [{ relation: named(node.RenameStmt.relation), lock: 'ACCESS EXCLUSIVE', work: undefined }]
  }
  if ('CreateTrigStmt' in node) {
    return [{ relation: named(node.CreateTrigStmt.relation), lock: 'SHARE ROW EXCLUSIVE', work: undefined }]
  }
  if ('ClusterStmt' in node && node.ClusterStmt.relation !== undefined) {
    return [{ relation: named(node.ClusterStmt.relation), lock: 'ACCESS EXCLUSIVE', work: 'rewrites' }]
  }
  if ('RefreshMatViewStmt' in node) {
    const { relation, concurrent } = node.RefreshMatViewStmt
    return [{ relation: named(relation), lock: concurrent ? 'EXCLUSIVE' : 'ACCESS EXCLUSIVE', work: 'rewrites' }]
  }
  if ('DropStmt' in node) {
    const { removeType, objects, concurrent } = node.DropStmt
    if (!/^OBJECT_(TABLE|MATVIEW|INDEX|VIEW)$/.test(removeType ?? '')) return undefined
    return (objects ?? []).map((object) => {
      const parts = 'List' in object ? nameParts(object.List.items) : []
      const lock: Lock = concurrent ? 'SHARE UPDATE EXCLUSIVE' : 'ACCESS EXCLUSIVE'
      const drops = removeType !== 'OBJECT_INDEX'
      return { relation: parts.map(quoteName).join('.'), lock, work: undefined, drops }
    })
  }
  return undefined
}

/** Tables that new foreign keys point to. */
function referenced(root: unknown): Impact[] {
  const found = new Set<string>()
  walk({ root }, (tag, value: Constraint) => {
    if (tag === 'Constraint' && value.contype === 'CONSTR_FOREIGN') found.add(named(value.pktable))
  })
  return [...found].map((relation) => ({ relation, lock: 'SHARE ROW EXCLUSIVE' as const, work: undefined }))
}

const LIGHT =
  /^AT_(SetStatistics|SetOptions|ResetOptions|ClusterOn|DropCluster|ValidateConstraint|SetRelOptions|ResetRelOptions|AttachPartition|DetachPartitionFinalize)$/
const TRIGGERS = /^AT_(Enable|Disable)(Always|Replica)?Trig(All|User)?$/
const REWRITES = /^AT_(SetLogged|SetUnLogged|SetAccessMethod|SetExpression|SetTableSpace)$/

/** As in PostgreSQL's AlterTableGetLockLevel, and what phase 3 of ALTER TABLE would have to do. */
function impactOfCommand(command: AlterTableCmd): Pick<Impact, 'lock' | 'work'> {
  const kind = command.subtype ?? ''
  if (LIGHT.test(kind)) {
    return { lock: 'SHARE UPDATE EXCLUSIVE', work: kind === 'AT_ValidateConstraint' ? 'reads' : undefined }
  }
  if (TRIGGERS.test(kind)) return { lock: 'SHARE ROW EXCLUSIVE', work: undefined }
  if (REWRITES.test(kind)) return { lock: 'ACCESS EXCLUSIVE', work: 'rewrites' }
  const definition = command.def
  if (kind === 'AT_AddConstraint' && definition !== undefined && 'Constraint' in definition) {
    const { contype, skip_validation: unchecked } = definition.Constraint
    const lock = contype === 'CONSTR_FOREIGN' ? 'SHARE ROW EXCLUSIVE' : 'ACCESS EXCLUSIVE'
    return { lock, work: unchecked ? undefined : 'reads' }
  }
  if (kind === 'AT_SetNotNull') return { lock: 'ACCESS EXCLUSIVE', work: 'reads' }
  if (kind === 'AT_AlterColumnType') return { lock: 'ACCESS EXCLUSIVE', work: 'may rewrite' }
  if (kind === 'AT_AddColumn') return { lock: 'ACCESS EXCLUSIVE', work: workOfNewColumn(definition) }
  return { lock: 'ACCESS EXCLUSIVE', work: undefined }
}

/** A constant default is kept in the catalog; what has to be computed for each row is not. */
function workOfNewColumn(definition: Node | undefined): Impact['work'] {
  if (definition === undefined || !('ColumnDef' in definition)) return undefined
  const { constraints = [], typeName } = definition.ColumnDef
  if (/^(small|big)?serial[248]?$/.test(nameParts(typeName?.names).at(-1) ?? '')) return 'rewrites'
  let work: Impact['work']
  for (const item of constraints) {
    if (!('Constraint' in item)) continue
    const { contype, raw_expr: expression } = item.Constraint
    if (contype === 'CONSTR_IDENTITY' || contype === 'CONSTR_GENERATED') return 'rewrites'
    if (contype !== 'CONSTR_DEFAULT') continue
    let computed = false
    walk({ expression }, (tag) => {
      if (tag === 'FuncCall') computed = true
    })
    // Only a volatile function is called for each row, which the server knows.
    if (computed) work = 'may rewrite'
  }
  return work
}
