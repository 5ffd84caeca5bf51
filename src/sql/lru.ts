/** A map that forgets what was used longest ago, bounded by the number of entries and by their total weight. */
export class Lru<V> {
  readonly #entries = new Map<string, V>()
  readonly #maxEntries: number
  readonly #maxWeight: number
  #weight = 0

  /** The weight of an entry is the length of its key, in UTF-16 units. */
  constructor(maxEntries: number, maxWeight: number) {
    this.#maxEntries = maxEntries
    this.#maxWeight = maxWeight
  }

  get size(): number {
    return this.#entries.size
  }

  get(key: string): V | undefined {
    const value = this.#entries.get(key)
    if (value === undefined) return undefined
    this.#entries.delete(key)
    this.#entries.set(key, value)
    return value
  }

  set(key: string, value: V): void {
    if (this.#entries.delete(key)) this.#weight -= key.length
    this.#entries.set(key, value)
    this.#weight += key.length
    for (const oldest of this.#entries.keys()) {
      if (this.#entries.size <= this.#maxEntries && this.#weight <= this.#maxWeight) return
      this.#entries.delete(oldest)
      this.#weight -= oldest.length
    }
  }
}
