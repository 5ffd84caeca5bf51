import { existsSync, readFileSync } from 'node:fs'

/** A span as the preloads of `test/support` write it. */
export interface SpanLine {
  readonly name: string
  readonly scope?: string
  readonly kind: number
  readonly traceId: string
  readonly spanId: string
  readonly parentSpanId?: string
  readonly traceState?: string
  readonly attributes: Readonly<Record<string, unknown>>
}

export function readSpans(file: string): SpanLine[] {
  if (!existsSync(file)) return []
  return readFileSync(file, 'utf8')
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as SpanLine)
}

/** Names of the `dry_run.*` attributes of a span. */
export function dryAttributes({ attributes }: SpanLine): string[] {
  return Object.keys(attributes).filter((name) => name.startsWith('dry_run.'))
}
