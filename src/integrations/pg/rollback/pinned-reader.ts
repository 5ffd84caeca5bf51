import { type Hazards, readHazards } from '../../../sql/hazards.js'
import { ESCAPES_QUERY, ROLLBACK_HAZARDS_QUERY } from '../../../sql/rollback-escapes.js'
import { ReadOnly } from '../read-only.js'
import type { PinnedConnection } from './pinned-connection.js'

/**
 * Reads on the run's own connection. What it sees there, nobody else does: so
 * nothing is remembered for others, and nothing of theirs is relied on.
 */
export class PinnedReader extends ReadOnly {
  readonly #pinned: PinnedConnection

  constructor(pinned: PinnedConnection, conversation: ConstructorParameters<typeof ReadOnly>[0]) {
    super(conversation)
    this.#pinned = pinned
  }

  override async place(): Promise<undefined> {
    return undefined
  }

  override async probablePlace(): Promise<undefined> {
    return undefined
  }

  override knownHazards(): undefined {
    return undefined
  }

  override async hazards(): Promise<Hazards> {
    return (await this.wayOut()).found
  }

  /** What a rollback does not take back in this database. @throws the server's error. */
  async wayOut(): Promise<NonNullable<PinnedConnection['hazards']>> {
    const known = this.#pinned.hazards
    if (known !== undefined) return known
    const rows = await this.rows({ text: ROLLBACK_HAZARDS_QUERY })
    const found = readHazards(rows.map(([kind, name]) => [kind ?? '', name ?? ''] as const))
    const names = `{${[...found.functions].map((name) => `"${name.replaceAll(/["\\]/g, '\\$&')}"`).join(',')}}`
    const escapes = (await this.rows({ text: ESCAPES_QUERY, values: [names] })).map(([what]) => what ?? '')
    this.#pinned.hazards = { found, escapes }
    return this.#pinned.hazards
  }
}
