import { run } from './run.js'
import { runs } from './runs.js'
import type { Dashboard } from './schema.js'

/** Every dashboard, by the name of its file in `dashboards/`. */
export function files(): ReadonlyMap<string, string> {
  const dashboards: readonly Dashboard[] = [runs, run]
  return new Map(dashboards.map((board) => [`${board.uid}.json`, `${JSON.stringify(board, null, 2)}\n`]))
}
