export interface Mail {
  readonly from: string
  readonly to: readonly string[]
  readonly subject: string
  readonly raw: string
}

export interface CrmRequest {
  readonly method: string
  readonly path: string
  readonly body?: unknown
}

export interface Snapshot {
  readonly tables: Readonly<Record<string, { readonly count: number; readonly digest: string }>>
  readonly sequences: Readonly<Record<string, string>>
  readonly wal: { readonly lsn: string; readonly nextTransactionId: string }
  readonly counters: { readonly inserted: string; readonly updated: string; readonly deleted: string }
  readonly inbox: readonly string[]
  readonly crm: { readonly writes: readonly string[]; readonly contacts: readonly unknown[] }
}

export interface World {
  readonly inbox: { readonly messages: readonly Mail[] }
  readonly crm: { readonly log: readonly CrmRequest[]; writes(): CrmRequest[] }
  readonly model: { readonly requests: readonly { readonly prompt: string }[] }
  readonly env: Readonly<Record<string, string>>
  rows<Row = Record<string, unknown>>(text: string, values?: readonly unknown[]): Promise<Row[]>
  walRecords(
    from: string,
    to: string,
  ): Promise<readonly { readonly manager: string; readonly type: string; readonly records: number }[]>
  snapshot(): Promise<Snapshot>
  stop(): Promise<void>
}

export function startWorld(options?: { modelUrl?: string }): Promise<World>
