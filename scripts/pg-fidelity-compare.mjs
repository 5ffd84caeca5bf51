/**
 * How a preview and the real execution compare. A value that the run makes up
 * (an id) stands for whatever the server gave.
 * @returns {string | undefined} what differs
 */
export function differences(outcome, real, madeUp) {
  const count = Number(/(\d+)$/.exec(outcome.tag)?.[1])
  const realCount = Number(/(\d+)$/.exec(real.tag ?? '')?.[1])
  if (count !== realCount) return `row count: ${count} instead of ${realCount}`
  if (!sameRows(outcome.rows, real.rows, madeUp)) {
    return `RETURNING: ${sample(outcome.rows, real.rows, madeUp)}`
  }
  for (const [table, { before, after }] of real.tables) {
    if (before === undefined || after === undefined) continue
    const changes = outcome.changes.filter((part) => part.table.oid === table).flatMap((part) => part.rows)
    const lines = (rows) => rows.filter((row) => row !== null).map((row) => JSON.stringify(row))
    const old = lines(changes.map((row) => row.before))
    const fresh = lines(changes.map((row) => row.after))
    const gone = minus(before, after)
    const come = minus(after, before)
    const foreseenGone = minus(old, fresh)
    const foreseenCome = minus(fresh, old)
    if (minus(gone, foreseenGone).length > 0 || minus(foreseenGone, gone).length > 0) {
      return `old rows: ${foreseenGone[0]} instead of ${gone[0]}`
    }
    const left = minus(foreseenCome, come).map((line) => JSON.parse(line))
    const right = minus(come, foreseenCome).map((line) => JSON.parse(line))
    if (!sameRows(left, right, madeUp)) return `new rows: ${sample(left, right, madeUp)}`
  }
  return undefined
}

function sample(left, right, madeUp) {
  const rest = right.filter((row) => !left.some((other) => sameRow(other, row, madeUp)))
  const extra = left.filter((row) => !right.some((other) => sameRow(other, row, madeUp)))
  return `${JSON.stringify(extra[0] ?? null)} instead of ${JSON.stringify(rest[0] ?? null)}`.slice(0, 500)
}

/** The same rows in any order: only an outer ORDER BY would promise one, and writes have none. */
function sameRows(left, right, madeUp) {
  if (left.length !== right.length) return false
  const rest = new Map()
  for (const row of right) {
    const line = JSON.stringify(row)
    rest.set(line, (rest.get(line) ?? 0) + 1)
  }
  const inexact = left.filter((row) => {
    const line = JSON.stringify(row)
    const count = rest.get(line) ?? 0
    if (count > 0) rest.set(line, count - 1)
    return count === 0
  })
  if (inexact.length === 0) return true
  if (inexact.length > 2000) return false
  const open = [...rest].flatMap(([line, count]) => Array.from({ length: count }, () => JSON.parse(line)))
  return inexact.every((row) => {
    const at = open.findIndex((other) => sameRow(row, other, madeUp))
    if (at >= 0) open.splice(at, 1)
    return at >= 0
  })
}

function sameRow(left, right, madeUp) {
  return (
    left.length === right.length &&
    left.every(
      (value, index) =>
        value === right[index] || (value !== null && madeUp.has(value) && /^-?\d+$/.test(right[index] ?? '')),
    )
  )
}

function minus(left, right) {
  const counts = new Map()
  for (const line of right) counts.set(line, (counts.get(line) ?? 0) + 1)
  return left.filter((line) => {
    const count = counts.get(line) ?? 0
    if (count > 0) counts.set(line, count - 1)
    return count === 0
  })
}
