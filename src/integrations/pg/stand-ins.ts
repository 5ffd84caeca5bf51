import { randomInt } from 'node:crypto'

type Kind = 'integer' | 'smallint'

/** Nobody else writes these: the digits are drawn at start. As numbers they are bigints. */
const PREFIX = `7${randomInt(100_000_000, 1_000_000_000)}`
const STAND_IN = new RegExp(`${PREFIX}(\\d{9})`, 'g')
const QUOTED = new RegExp(`['"]${PREFIX}|${PREFIX}\\d{9}['"]`)

/** More of them are rarely as many the next time. */
const MAX_PARAMETERS = 100

/**
 * Numbers in the place of made-up ids while a preview is worked out, so that
 * its text is the same for every run and can be used again.
 */
export class StandIns {
  readonly #make: (kind: Kind) => string
  readonly #ids: { readonly kind: Kind; readonly id: string }[] = []

  constructor(make: (kind: Kind) => string) {
    this.#make = make
  }

  take(count: number, kind: Kind): string[] {
    return Array.from({ length: count }, () => {
      this.#ids.push({ kind, id: this.#make(kind) })
      return PREFIX + String(this.#ids.length - 1).padStart(9, '0')
    })
  }

  /** The text with the ids themselves. */
  fill(text: string): string {
    if (this.#ids.length === 0) return text
    return text.replace(STAND_IN, (whole, index) => this.#ids[Number(index)]?.id ?? whole)
  }

  /** The text with parameters in the place of the ids, the first of which is number `before + 1`; undefined where that cannot be. */
  parameters(text: string, before: number): string | undefined {
    if (this.#ids.length > MAX_PARAMETERS || QUOTED.test(text)) return undefined
    if (this.#ids.length === 0) return text
    return text.replace(STAND_IN, (_, index) => `$${before + 1 + Number(index)}`)
  }

  /** The ids themselves. */
  get values(): readonly string[] {
    return this.#ids.map(({ id }) => id)
  }

  /** As many ids of the same kinds, from another source. */
  anew(make: (kind: Kind) => string): StandIns {
    const fresh = new StandIns(make)
    for (const { kind } of this.#ids) fresh.take(1, kind)
    return fresh
  }
}
