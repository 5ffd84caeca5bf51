import { messageOf } from '../../errors.js'
import type { Preview } from '../../journal/record.js'
import { classify, type Statement } from '../../sql/classify.js'
import { hazardOf } from '../../sql/hazards.js'
import { PreviewUnsupported } from '../../sql/preview.js'
import { previewUtility } from '../../sql/preview-utility.js'
import { refuseCostly } from './preview-bounds.js'
import type { Session } from './session.js'

/** A blocked TRUNCATE, CREATE TABLE AS or definition, as far as reading tells what it would do. */
export interface UtilityOutcome {
  readonly preview: Preview
  readonly tag: string
  /** Nothing speaks against the tag being the live one. */
  readonly exact: boolean
  /** Tables it would leave without rows, where that is certain. */
  readonly empties: readonly string[] | undefined
}

const UTILITY =
  /^(Truncate|CreateTableAs|Create|AlterTable|Drop|Index|Rename|CreateTrig|Cluster|RefreshMatView|View)Stmt$/

/** Undefined when there is nothing to say; why it could not be worked out goes to `notes`. */
export async function previewOfUtility(
  session: Session,
  statement: Statement,
  values: readonly unknown[],
  notes: string[],
): Promise<UtilityOutcome | undefined> {
  const { conversation, reader, guard } = session
  const known = UTILITY.test(statement.node) || statement.operation === 'SELECT INTO'
  if (!known || guard.preview === 'none') return undefined
  const bounds = guard.previewBounds
  try {
    const hazards = await reader.hazards()
    const found = await previewUtility(statement.text, {
      maxRows: bounds.rows,
      rows: (text) => reader.rows({ text }),
      async count(text) {
        for (const read of classify(text)) {
          const culprit = hazardOf(read, hazards)
          if (culprit !== undefined) throw new PreviewUnsupported(`it would call ${culprit}`)
          if (read.kind !== 'read' && read.kind !== 'unsure') throw new PreviewUnsupported(`it is a ${read.kind}`)
        }
        const step = { text, values }
        // The plan's own row count is that of count(*): one.
        await refuseCostly(reader, step, bounds)
        return Number((await reader.rows(step))[0]?.[0])
      },
    })
    if (found === undefined) return undefined
    const { rows, cascades } = found
    const secondary = cascades.map(({ table, rows: count }) => ({
      kind: 'cascade' as const,
      target: table,
      name: 'TRUNCATE CASCADE',
      rows: count,
    }))
    return {
      preview: {
        method: 'select',
        rows,
        diff: [],
        ...(found.notes.length > 0 ? { notes: found.notes } : {}),
        ...(secondary.length > 0 ? { secondary } : {}),
      },
      tag: found.tag ?? statement.tag,
      exact: !found.notes.some((note) => note.includes('(predicted)')),
      empties: found.empties,
    }
  } catch (error) {
    if (conversation.lost !== undefined) throw error
    if (!(error instanceof PreviewUnsupported) && !(error instanceof session.library.DatabaseError)) throw error
    notes.push(`no preview: ${messageOf(error)}`)
    return undefined
  }
}
