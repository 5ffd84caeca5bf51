import { createHash } from 'node:crypto'
import type { Guard, Recorded } from '../../../guard/guard.js'
import type { Run } from '../../../run/run.js'
import { shared } from '../../../run/store.js'
import { createdBy } from './created.js'
import { methodOf, plannedChange } from './planned-change.js'
import { resourceKey } from './resource-key.js'
import { type OverlaidWrite, ResourceOverlay } from './resource-overlay.js'
import type { SimulatedWrite } from './simulated-write.js'

const overlays = new WeakMap<Run, ResourceOverlay>()

/** What a run caused may go on for a while after its last entry has ended, and the run may be entered again. */
const GRACE = 60_000

/** Undefined as long as the run would have changed nothing. */
export function resourcesOf(run: Run): ResourceOverlay | undefined {
  return overlays.get(run)
}

function openResources(run: Run): ResourceOverlay {
  const known = overlays.get(run)
  if (known !== undefined) return known
  const overlay = new ResourceOverlay()
  overlays.set(run, overlay)
  return overlay
}

shared.endListeners.add((run) => {
  if (!overlays.has(run)) return
  const drop = () => {
    if (run.endedAt !== undefined && Date.now() - run.endedAt >= GRACE) overlays.delete(run)
  }
  shared.root(() => setTimeout(drop, GRACE + 1).unref())
})

/** Remembers a simulated write for what the run reads next. An answer that says it failed changes nothing. */
export function rememberWrite(guard: Guard, run: Run, simulated: SimulatedWrite, { spanId }: Recorded): void {
  const { call, exchange, answer, summary } = simulated
  if (exchange.upgrade || answer.status < 200 || answer.status > 299) return
  const change = plannedChange(exchange)
  if (change === undefined) return
  const overlay = openResources(run)
  const write: OverlaidWrite = { summary, spanId }
  const caller = callerOf(exchange.headers)
  const key = resourceKey(call, exchange.path, exchange.headers['host'])
  const created = methodOf(exchange) === 'POST' ? createdBy(key, simulated, change) : undefined
  let kept = true
  if (created !== undefined) {
    kept = overlay.create(created.key, created.planned, { write, caller, size: created.size })
  }
  if (created === undefined || created.updates) {
    const post = methodOf(exchange) === 'POST'
    const size = change.kind === 'delete' || change.kind === 'unknown' ? 0 : exchange.body.size
    kept = overlay.change(key, change, { write, post, caller, size }) && kept
  }
  if (kept || overlay.told.has('truncated')) return
  overlay.told.add('truncated')
  tell(guard, run, `overlay truncated: what ${summary} and later requests would change is not all seen by later reads`)
}

/** Tells callers apart, where a path means somebody else for each. */
export function callerOf(headers: Readonly<Record<string, string>>): string {
  const { authorization = '', cookie = '', 'x-api-key': key = '' } = headers
  return createHash('sha256')
    .update(JSON.stringify([authorization, cookie, key]))
    .digest('base64')
}

/** Puts on record, once, that a read sees the data as it is. */
export function tellNotOverlaid(guard: Guard, run: Run, summary: string, reason: string): void {
  const message = `not overlaid: ${summary} sees the data as it is, without what this run would have changed (${reason})`
  const told = overlays.get(run)?.told
  if (told === undefined || told.has(message)) return
  if (told.size > MAX_TOLD) return
  told.add(message)
  tell(guard, run, told.size > MAX_TOLD ? `not overlaid: more reads than the ${MAX_TOLD} that are named` : message)
}

const MAX_TOLD = 500

function tell(guard: Guard, run: Run, message: string): void {
  guard.within(run, () => guard.problem(run, 'gap', message))
}
