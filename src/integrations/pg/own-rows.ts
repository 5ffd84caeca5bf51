import type { Table } from '../../sql/catalog.js'
import type { Statement } from '../../sql/classify.js'
import type { TableChanges } from '../../sql/overlay.js'
import { NotOverlaid } from '../../sql/overlay-rewrite.js'
import { constraintModes } from './constraint-modes.js'
import type { PgClient } from './driver.js'
import { known, knownKey, remember } from './known.js'
import { ambiguousSettings, OverlaidPreview, overlayOf, remembered, tell, tellStale } from './overlaid.js'
import { previewWrite } from './preview.js'
import type { PreviewOutcome, PreviewRequest } from './preview-request.js'
import type { Session } from './session.js'
import { isMadeUp, smallId } from './small-ids.js'

/** A preview, and why it saw the data as it is instead of the run's own rows, if it did. */
export interface OwnPreview {
  readonly outcome: PreviewOutcome
  readonly blind: string | undefined
}

/** Works out a write over what the run has written before. @throws as previewWrite */
export async function previewWithOwnRows(
  session: Session,
  statement: Statement,
  values: readonly unknown[],
  types: readonly number[] | undefined,
  more: Pick<PreviewRequest, 'learn' | 'invented' | 'withoutRules'> = {},
): Promise<OwnPreview> {
  const { conversation, reader, run } = session
  const overlay = overlayOf(run, conversation.client)
  const place = await reader.place()
  const request: PreviewRequest = {
    ...previewRequest(session, statement, values, types),
    // What the planner lets pass depends on the role and on what names mean.
    ...(place === undefined
      ? {}
      : { tables: tablesIn(session, place), place: `${placeOf(conversation.client)} ${place}` }),
    ...more,
  }
  if (overlay.untouched) return { outcome: await previewWrite(reader, request), blind: undefined }
  let blind = ''
  for (const spellOut of [false, true]) {
    try {
      const own = new OverlaidPreview(overlay, types?.length ?? values.length, spellOut, remembered(session, place))
      const resolution = await own.check(statement.text)
      if (resolution !== undefined) tellStale(session, overlay, statement, resolution)
      const outdated = resolution?.relations.some(({ oid }) => oid !== null && overlay.stale.has(oid))
      return { outcome: await previewWrite(reader, { ...request, own, outdated }), blind: undefined }
    } catch (error) {
      if (conversation.lost !== undefined) throw error
      const refused = error instanceof session.library.DatabaseError && !isOfTheData(error)
      if (!refused && !(error instanceof NotOverlaid)) throw error
      blind ||= error.message
      if (!refused) break
    }
  }
  // What fails without the run's own rows too does not fail because of them.
  const { learn: _, ...unlearned } = request
  const outcome = await previewWrite(reader, { ...unlearned, outdated: true })
  tell(session, overlay, statement, blind)
  return { outcome, blind }
}

/** What a preview is told of one call. */
export function previewRequest(
  session: Session,
  { text }: Statement,
  values: readonly unknown[],
  types: readonly number[] | undefined,
): PreviewRequest {
  const { guard, run, conversation } = session
  return {
    text,
    values,
    types,
    syntheticId: (kind) => (kind === 'smallint' ? smallId(run) : guard.syntheticId(run, 'integer')),
    madeUp: (value) => isMadeUp(run, value),
    bounds: guard.previewBounds,
    unplanned: !conversation.checks,
    place: placeOf(conversation.client),
    stale: (oid) => overlayOf(run, conversation.client).stale.has(oid),
    modes: () => constraintModes(session),
  }
}

function tablesIn({ conversation }: Session, place: string): PreviewRequest['tables'] {
  const key = (relation: string) => knownKey(conversation.client, place, 'table', relation)
  return { get: (relation) => known<Table>(key(relation)), set: (relation, table) => remember(key(relation), table) }
}

function placeOf({ host, port, database, user }: PgClient): string {
  return JSON.stringify([host, port, database, user])
}

function isOfTheData(error: Error & { code?: string }): boolean {
  return /^2[123]/.test(error.code ?? '')
}

/** Remembers what a blocked write would have written, for what the run reads and writes next. Returns what is remembered. */
export function keepRows(
  session: Session,
  statement: Statement,
  changes: readonly TableChanges[],
  blind: string | undefined,
): readonly TableChanges[] {
  const { conversation, run, guard } = session
  const written = changes.filter(({ rows }) => rows.length > 0)
  if (written.length === 0) return []
  const overlay = overlayOf(run, conversation.client)
  const reason = blind ?? ambiguousSettings(conversation)
  if (reason !== undefined) {
    for (const { table } of written) overlay.stale.set(table.oid, reason)
    return []
  }
  const { undo } = conversation.state
  undo.follow(overlay)
  if (!overlay.apply(undo, written)) {
    const message = `overlay truncated: what ${statement.operation} and later statements would write is not seen by later reads`
    if (overlay.told.has('truncated')) return []
    overlay.told.add('truncated')
    guard.within(run, () => guard.problem(run, 'gap', message))
    return []
  }
  return written
}
