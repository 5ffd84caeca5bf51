/** One statement of a random script. */
export interface Step {
  readonly kind: string
  readonly text: string
  readonly values: readonly (Value | null)[]
  /** A prepared statement. */
  readonly name?: string
  /** The result column whose values later statements may use. */
  readonly keep?: string
  readonly ordered?: boolean
}

/** A constant, or one of the ids the script has been given so far. */
type Value = string | number | { readonly kept: number }

export type Script = readonly Step[]

/** A small generator with a seed, so that a failure can be repeated. */
function generator(seed: number): (below: number) => number {
  let state = (seed * 2_654_435_761) >>> 0
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below
  }
}

const CODES = ['a', 'b', 'c', 'd', 'e', "f'", 'g\\', 'ü']
const KINDS = ['one', 'two', 'three']

/** A script over the tables parent, child and log: writes, reads, transactions and savepoints. */
export function scriptOf(seed: number): Script {
  const random = generator(seed)
  const pick = <T>(items: readonly T[]): T => items[random(items.length)] as T
  const id = (): Value => (random(3) === 0 ? { kept: random(50) } : 1 + random(4))
  const code = () => pick(CODES)
  const kind = () => pick(KINDS)

  const makers: (() => Step)[] = [
    () => ({
      kind: 'insert',
      text: 'INSERT INTO parent (code, n) VALUES ($1, $2) RETURNING *',
      values: [code(), random(50)],
      keep: 'id',
      ...(random(2) ? { name: 'new parent' } : {}),
    }),
    () => ({
      kind: 'insert',
      text: 'INSERT INTO child (parent_id, kind) VALUES ($1, $2) RETURNING id, parent_id, kind, at',
      values: [id(), kind()],
    }),
    () => ({ kind: 'insert', text: 'INSERT INTO log VALUES ($1, $2), ($1, 7)', values: [code(), random(9)] }),
    () => ({
      kind: 'insert',
      text: "INSERT INTO log SELECT code || '!', n FROM parent WHERE n > $1",
      values: [random(20)],
    }),
    () => ({
      kind: 'upsert',
      text: 'INSERT INTO parent AS p (code, n) VALUES ($1, 1) ON CONFLICT (code) DO UPDATE SET n = p.n + excluded.n RETURNING id, n, half',
      values: [code()],
      keep: 'id',
    }),
    () => ({
      kind: 'upsert',
      text: "INSERT INTO parent (code) VALUES ($1), ('new') ON CONFLICT DO NOTHING RETURNING id, code",
      values: [code()],
      keep: 'id',
    }),
    () => ({
      kind: 'update',
      text: 'UPDATE parent SET n = n + $1 WHERE id = $2 RETURNING id, code, n, half',
      values: [random(9), id()],
      ...(random(2) ? { name: 'add' } : {}),
    }),
    () => ({ kind: 'update', text: 'UPDATE parent SET code = $1 WHERE id = $2', values: [code(), id()] }),
    () => ({
      kind: 'update',
      text: 'UPDATE child c SET kind = p.code FROM parent p WHERE p.id = c.parent_id AND p.n > $1 AND c.kind = $2 RETURNING c.id, c.kind, p.code',
      values: [random(5), kind()],
    }),
    () => ({
      kind: 'update',
      text: 'UPDATE log SET amount = coalesce(amount, 0) + 1 WHERE what = $1',
      values: ['first'],
    }),
    () => ({ kind: 'update', text: "UPDATE parent SET tags = tags || $1::text WHERE tags @> '{x}'", values: [code()] }),
    () => ({ kind: 'delete', text: 'DELETE FROM child WHERE parent_id = $1 RETURNING id', values: [id()] }),
    () => ({
      kind: 'delete',
      text: 'DELETE FROM parent p WHERE code = $1 AND NOT EXISTS (SELECT 1 FROM child WHERE parent_id = p.id) RETURNING *',
      values: [code()],
    }),
    () => ({ kind: 'truncate', text: random(3) === 0 ? 'TRUNCATE parent CASCADE' : 'TRUNCATE child, log', values: [] }),
    () => ({ kind: 'delete', text: 'DELETE FROM log USING parent WHERE what = code || $1', values: ['!'] }),
    () => ({
      kind: 'cte',
      text: "WITH gone AS (DELETE FROM child WHERE kind = $1 RETURNING parent_id) INSERT INTO log SELECT 'gone', count(*) FROM gone",
      values: [kind()],
    }),
    () => ({
      kind: 'cte',
      text: 'WITH up AS (UPDATE parent SET n = n + 1 WHERE id = $1 RETURNING id, n) SELECT id, n, (SELECT count(*)::int FROM child) AS c FROM up',
      values: [id()],
    }),
    () => ({ kind: 'select', text: 'SELECT * FROM parent ORDER BY code', values: [], ordered: true }),
    () => ({ kind: 'select', text: 'SELECT * FROM child', values: [] }),
    () => ({
      kind: 'select',
      text: 'SELECT what, sum(amount)::int, count(*)::int AS c FROM log GROUP BY what',
      values: [],
    }),
    () => ({
      kind: 'select',
      text: 'SELECT p.*, count(c.id)::int AS c FROM parent p LEFT JOIN child c ON c.parent_id = p.id GROUP BY p.id ORDER BY p.code',
      values: [],
      ordered: true,
    }),
    () => ({
      kind: 'select',
      text: 'SELECT code FROM public.parent WHERE public.parent.id = $1 AND EXISTS (SELECT FROM child c WHERE c.parent_id = parent.id)',
      values: [id()],
      ...(random(2) ? { name: 'has children' } : {}),
    }),
    () => ({
      kind: 'select',
      text: 'WITH parent AS (SELECT * FROM parent WHERE n > $1) SELECT code, n FROM parent FOR UPDATE',
      values: [random(5)],
    }),
  ]
  const steps: Step[] = []
  let open = false
  const savepoints: string[] = []
  const control = (text: string): void => void steps.push({ kind: 'control', text, values: [] })
  const length = 4 + random(10)
  while (steps.length < length) {
    const dice = random(14)
    if (!open && dice < 3) {
      control('BEGIN')
      open = true
    } else if (open && dice === 0) {
      control(pick(['COMMIT', 'ROLLBACK', 'ROLLBACK', 'COMMIT AND CHAIN', 'ROLLBACK AND CHAIN']))
      open = steps.at(-1)?.text.includes('CHAIN') ?? false
      savepoints.length = 0
    } else if (open && dice < 3) {
      savepoints.push(pick(['s', 't']))
      control(`SAVEPOINT ${savepoints.at(-1)}`)
    } else if (open && dice < 5 && savepoints.length > 0) {
      const at = savepoints.lastIndexOf(pick(savepoints))
      const release = random(3) === 0
      control(`${release ? 'RELEASE' : 'ROLLBACK TO'} ${savepoints[at]}`)
      savepoints.length = release ? at : at + 1
    } else {
      steps.push(pick(makers)())
    }
  }
  if (open) control(pick(['COMMIT', 'ROLLBACK']))
  // What it all amounts to.
  steps.push(
    { kind: 'select', text: 'SELECT * FROM parent', values: [] },
    { kind: 'select', text: 'SELECT * FROM child', values: [] },
    { kind: 'select', text: 'SELECT * FROM log', values: [] },
  )
  return steps
}
