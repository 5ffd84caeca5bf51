export interface ReportDocument {
  readonly schema: string
  readonly run: { readonly id: string; readonly verdict: string }
  readonly totals: Readonly<
    Record<'blocked' | 'forwarded' | 'allowedWrites' | 'unblocked' | 'failed' | 'reads', number>
  >
  readonly effects: readonly {
    readonly system: string
    readonly action: string | null
    readonly effect: string
    readonly outcome: string
    readonly target: string
    readonly summary: string
    readonly preview: {
      readonly rows: number
      readonly diff: readonly { readonly field: string; readonly before?: unknown; readonly after?: unknown }[]
    }
  }[]
}

export function printReport(runId: string, journal: string, options?: readonly string[]): Promise<string>

export function readReport(runId: string, journal: string): Promise<ReportDocument>
