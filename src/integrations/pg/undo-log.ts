import type { Node } from '@pgsql/types'
import { type Overlay, overlayTime } from '../../sql/overlay.js'

/** Remembers when a connection's transaction and its savepoints began, so that overlays can be taken back to then. */
export class UndoLog {
  readonly #overlays = new Set<Overlay>()
  #start: number | undefined
  #savepoints: { name: string; at: number }[] = []

  /** The connection writes to this overlay: undoing concerns it too. */
  follow(overlay: Overlay): void {
    this.#overlays.add(overlay)
  }

  /** A statement of transaction control has succeeded. `undone` when it took the transaction back, whatever it says. */
  control(node: Node, undone: boolean): void {
    if (!('TransactionStmt' in node)) return
    const { kind, savepoint_name: name = '', chain } = node.TransactionStmt
    switch (kind) {
      case 'TRANS_STMT_BEGIN':
      case 'TRANS_STMT_START':
        this.#start ??= overlayTime()
        return
      case 'TRANS_STMT_COMMIT':
      case 'TRANS_STMT_ROLLBACK':
        if (undone) this.rollBack()
        else this.forget()
        if (chain) this.#start = overlayTime()
        return
      case 'TRANS_STMT_SAVEPOINT':
        this.#savepoints.push({ name, at: overlayTime() })
        return
      case 'TRANS_STMT_RELEASE': {
        const index = this.#find(name)
        if (index >= 0) this.#savepoints.length = index
        return
      }
      case 'TRANS_STMT_ROLLBACK_TO': {
        const index = this.#find(name)
        const savepoint = this.#savepoints[index]
        if (savepoint === undefined) return
        this.undoSince(savepoint.at)
        // The savepoint itself stays.
        this.#savepoints.length = index + 1
        return
      }
      default:
    }
  }

  /** The transaction, if one is open, was undone: by ROLLBACK, an error, or the end of the connection. */
  rollBack(): void {
    if (this.#start !== undefined) this.undoSince(this.#start)
    this.forget()
  }

  /** The transaction has ended and what it wrote stays. */
  forget(): void {
    this.#start = undefined
    this.#savepoints = []
    // A pooled connection outlives the runs.
    this.#overlays.clear()
  }

  undoSince(time: number): void {
    for (const overlay of this.#overlays) overlay.undo(this, time)
  }

  #find(name: string): number {
    return this.#savepoints.findLastIndex((savepoint) => savepoint.name === name)
  }
}
