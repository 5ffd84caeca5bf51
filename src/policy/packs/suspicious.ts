/** A request that is a read by its method. */
export interface SafeCall {
  readonly host: string
  readonly path: string
  readonly query: URLSearchParams
}

interface Suspicion {
  readonly id: string
  readonly note: string
  matches(call: SafeCall): boolean
}

/**
 * Safe methods that often change something all the same. They pass, because
 * most of what looks like this is a page, and the report says so; a rule with
 * `effect: write` blocks them.
 */
const suspicions: readonly Suspicion[] = [
  {
    id: 'suspicious.unsubscribe',
    note: 'a GET of an unsubscribe link often unsubscribes',
    matches: ({ path }) => /\/(?:un|opt-?out-?)subscribe\b|\/opt-?out\b/i.test(path),
  },
  {
    id: 'suspicious.logout',
    note: 'a GET of a logout link often ends a session',
    matches: ({ path }) => /\/(?:log|sign)-?(?:out|off)\b/i.test(path),
  },
  {
    id: 'suspicious.verb',
    note: 'the path names a change',
    matches: ({ path }) =>
      /\/(?:delete|remove|destroy|purge|cancel|approve|confirm|revoke|reset|trigger|send|execute)(?:\.\w+)?\/?$/i.test(
        path,
      ),
  },
  {
    id: 'suspicious.action',
    note: 'the query names an action that is no read',
    matches: ({ query }) =>
      [...query].some(
        ([name, value]) =>
          /^action$/i.test(name) && value !== '' && !/^(get|list|describe|view|show|search)/i.test(value),
      ),
  },
  {
    id: 'suspicious.webhook',
    note: 'a webhook acts on whatever reaches it',
    matches: ({ host, path }) => /^hooks?\./i.test(host) || /\/(?:web)?hooks?\/(?:catch\/)?[^/]+/i.test(path),
  },
  {
    id: 'suspicious.method-override',
    note: 'the query overrides the method',
    matches: ({ query }) => query.has('_method'),
  },
]

/** What the report says of a read that may be a write; undefined for most. */
export function suspicionOf(call: SafeCall, enabled: (id: string) => boolean): string | undefined {
  const found = suspicions.find(({ id, matches }) => matches(call) && enabled(id))
  return found === undefined ? undefined : `may write although it is a read by its method: ${found.note} (${found.id})`
}

export const suspicionIds: readonly string[] = suspicions.map(({ id }) => id)
