import { createRequire } from 'node:module'
import type * as Api from '@opentelemetry/api'

/** Where every copy of `@opentelemetry/api` 1.x keeps what has been registered. */
export const API_KEY = Symbol.for('opentelemetry.js.api.1')

const globals = globalThis as { [API_KEY]?: { readonly context?: Api.ContextManager } }
let api: typeof Api | undefined

/**
 * The OpenTelemetry API, loaded with the first call. Its fifty files are a
 * tenth of what a preload costs, and a live process without an SDK never needs them.
 */
export function otel(): typeof Api {
  api ??= createRequire(import.meta.url)('@opentelemetry/api') as typeof Api
  return api
}

/** The active context, or undefined where nobody has registered a context manager. Loads nothing. */
export function activeContext(): Api.Context | undefined {
  return globals[API_KEY]?.context?.active()
}
