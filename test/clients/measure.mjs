// What becomes of one write call of each client in a dry run, measured in child processes.
import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

const HERE = path.dirname(fileURLToPath(import.meta.url))
const ROOT = path.resolve(HERE, '../..')

export const installed = existsSync(path.join(HERE, 'node_modules'))

/** Listens where every connection that leaves is sent to. */
async function listen() {
  let connections = 0
  const server = createServer((socket) => {
    connections += 1
    socket.destroy()
  })
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
  return { port: server.address().port, count: () => connections, close: () => server.close() }
}

/** @param mode `simulate` and `throw` are values of `onBlocked` in a dry run; `live` is none. */
export async function measureClient(name, mode = 'simulate', dist = process.env.DRYTRACE_DIST ?? 'dist') {
  const out = path.resolve(ROOT, dist)
  const directory = mkdtempSync(path.join(tmpdir(), 'drytrace-client-'))
  const listener = await listen()
  try {
    const journal = path.join(directory, 'journal')
    writeFileSync(
      path.join(directory, 'policy.json'),
      JSON.stringify({ version: 1, onBlocked: mode === 'throw' ? mode : 'simulate' }),
    )
    const preloads = [path.join(HERE, 'count-egress.mjs'), path.join(out, 'register.js')]
    const { CI: _, VITEST: __, NODE_OPTIONS: ___, ...env } = process.env
    const { stdout, stderr } = await run(
      [
        '--no-warnings',
        ...preloads.map((file) => `--import=${pathToFileURL(file)}`),
        path.join(HERE, 'child.mjs'),
        name,
        mode,
      ],
      {
        ...env,
        DRYTRACE_INDEX: String(pathToFileURL(path.join(out, 'index.js'))),
        DRYTRACE_JOURNAL: journal,
        DRYTRACE_POLICY: path.join(directory, 'policy.json'),
        DRYTRACE_QUIET: '1',
        LISTENER_PORT: String(listener.port),
        AWS_EC2_METADATA_DISABLED: 'true',
      },
    )
    const line = stdout.split('\n').find((text) => text.startsWith('OUTCOME '))
    if (line === undefined) throw new Error(`${name} printed no outcome:\n${stdout}${stderr}`)
    return {
      name,
      ...JSON.parse(line.slice('OUTCOME '.length)),
      noticed: listener.count(),
      effects: readEffects(journal),
    }
  } finally {
    listener.close()
    rmSync(directory, { recursive: true, force: true })
  }
}

function run(args, env) {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, args, { env, cwd: HERE, stdio: ['ignore', 'pipe', 'pipe'] })
    const output = { stdout: '', stderr: '' }
    for (const name of ['stdout', 'stderr']) {
      child[name].setEncoding('utf8').on('data', (text) => {
        output[name] += text
      })
    }
    child.on('error', reject)
    child.on('close', () => resolve(output))
  })
}

function readEffects(directory) {
  if (!existsSync(directory)) return []
  return readdirSync(directory)
    .filter((name) => name.endsWith('.jsonl'))
    .flatMap((name) => readFileSync(path.join(directory, name), 'utf8').split('\n'))
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line))
    .filter(({ type }) => type === 'effect')
}

/** Two at a time. */
export async function measureAll(names, mode) {
  const waiting = [...names]
  const found = new Map()
  const worker = async () => {
    for (let name = waiting.shift(); name !== undefined; name = waiting.shift()) {
      found.set(name, await measureClient(name, mode))
    }
  }
  await Promise.all([worker(), worker()])
  return names.map((name) => found.get(name))
}

/** Calls that take more than one request by their nature. */
const REQUESTS = { 's3 multipart (lib-storage)': 5 }
export const requestsOf = (name) => REQUESTS[name] ?? 1

/** What differs from run to run, and the length. */
function settle(value) {
  const text = (JSON.stringify(value) ?? 'undefined')
    .replace(/dry_[a-z0-9]+_\d+/g, 'dry_…')
    .replace(/d27ace[0-9a-f-]{30}/g, 'd27ace…')
    .replace(/\b2[01]\d{8}\b/g, '2…')
    .replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, '<time>')
    .replace(/\b\d{10}(\.\d+)?\b/g, '<time>')
  return text.length > 120 ? `${text.slice(0, 120)}…` : text
}

const cell = (text) => text.replaceAll('|', '\\|')

export function renderTable(rows, versions) {
  const lines = rows.map(({ name, effects, connects, noticed, result, error }) => {
    const { summary, fidelity } = effects[0] ?? { summary: '-', fidelity: null }
    const requests = requestsOf(name)
    const calls = requests === 1 ? summary : `${summary} and ${requests - 1} more`
    const simulated = fidelity === 'plausible' ? 'as the service answers' : '200 `{}`'
    const returned = error === undefined ? `\`${cell(settle(result))}\`` : `throws ${cell(error)}`
    return `| ${name} | ${cell(calls.replace(/([?&]X-Amz-[^ ]*)/, ''))} | ${simulated} | ${effects.length / requests} | ${connects + noticed} | ${returned} |`
  })
  return `# HTTP clients

Generated by \`node test/clients/write-table.mjs\`; a test fails when it is out of date.

One write call of each client in a dry run, with the client's own retries left on, nothing configured in drytrace.
Connections are counted below every JavaScript layer of Node, and by a listener that all of them are sent to. Each
attempt is one record in the journal. Ids made up for an answer begin with \`dry_\`, \`d27ace\` or are integers from
2,000,000,000.

| client | blocked | simulated | attempts | connections | the caller gets |
|---|---|---|---|---|---|
${lines.join('\n')}

With \`onBlocked: throw\` the answer is \`451\` with \`{"error":{"code":"DRY_BLOCKED",…}}\`: the client's own error for a
refused request, after one attempt. Slack's client is the exception: it tries again whatever is not 200, so leave
\`simulate\` for \`slack.com\`.

\`got\` with \`http2: true\` is refused: it asks by a raw TLS connection which protocol the server speaks, before there is a
request that could be answered. Its caller gets \`DRY_BLOCKED\`; no connection is made and no name looked up.

Measured with ${versions}.
`
}
