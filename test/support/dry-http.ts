import path from 'node:path'
import type { EffectRecord } from '../../src/journal/record.js'
import { type Finished, runNode } from './child.js'
import { readEffects } from './journal.js'
import { INDEX_URL, outputOf, scratchTree } from './scratch.js'

export interface DryHttp<T> {
  readonly out: T
  readonly effects: EffectRecord[]
  readonly finished: Finished
}

/**
 * Runs the body of an async function dry, in a child process with the real preload, under a policy.
 * It has `post(url, body, headers)`, `http`, `http2`, `undici`, and `env`'s URL as `url`; what it returns is `out`.
 *
 * @param files beside the policy; `policy.yaml` or `policy.mjs` among them is the policy
 */
export async function dryHttp<T>(
  files: Readonly<Record<string, string | object>>,
  body: string,
  env: Readonly<Record<string, string>> = {},
): Promise<DryHttp<T>> {
  const directory = scratchTree(files)
  const journal = path.join(directory, 'journal')
  const policy = path.join(directory, 'policy.mjs' in files ? 'policy.mjs' : 'policy.yaml')
  const finished = await runNode({
    register: true,
    env: { ...env, DRYTRACE_JOURNAL: journal, DRYTRACE_POLICY: policy },
    source: `import { dryRun } from ${JSON.stringify(INDEX_URL)}
      import http from 'node:http'
      import http2 from 'node:http2'
      import { Duplex } from 'node:stream'
      import undici from 'undici'
      const url = process.env.URL
      const answerOf = async (response) => ({
        status: response.status,
        headers: Object.fromEntries(response.headers),
        body: await response.text(),
      })
      const post = async (to, body, headers = { 'content-type': 'application/json' }, method = 'POST') =>
        answerOf(await fetch(to, { method, headers, body: typeof body === 'string' ? body : JSON.stringify(body) }))
      const out = await dryRun({ id: 'dry-http' }, async () => { ${body} })
      console.log('OUT ' + JSON.stringify(out ?? null))`,
  })
  return { out: outputOf<T>(finished), effects: readEffects(journal), finished }
}

/** What \`post\` gives. */
export interface Posted {
  readonly status: number
  readonly headers: Record<string, string>
  readonly body: string
}
