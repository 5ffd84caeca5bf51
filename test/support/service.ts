import { type ChildProcess, spawn } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import http from 'node:http'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { type Finished, REGISTER, scratchDirectory } from './child.js'

export interface ServiceOptions {
  /** Source of an ES module that prints `LISTENING <port>` once it serves. */
  readonly source: string
  readonly env?: Readonly<Record<string, string | undefined>>
  readonly before?: readonly string[]
  readonly after?: readonly string[]
  /** Preload drytrace; true when left out. Another file than `dist/register.js` when it is a path. */
  readonly register?: boolean | string
}

/** A Node service in a child process, with the guard preloaded. */
export interface Service {
  readonly url: string
  readonly port: number
  readonly journal: string
  readonly directory: string
  readonly process: ChildProcess
  stderr(): string
  stdout(): string
  /** Ends it with SIGKILL, if it still runs. */
  stop(): Promise<Finished>
}

export function startService(options: ServiceOptions): Promise<Service> {
  const directory = scratchDirectory()
  const journal = path.join(directory, 'journal')
  const file = path.join(directory, 'service.mjs')
  writeFileSync(file, options.source)
  const ours = options.register === false ? [] : [typeof options.register === 'string' ? options.register : REGISTER]
  const preloads = [...(options.before ?? []), ...ours, ...(options.after ?? [])]
  // What the test runner itself was started with must not reach the child.
  const { NODE_OPTIONS: _, VITEST: __, DRY_RUN: ___, BAGGAGE: ____, TRACESTATE: _____, ...inherited } = process.env
  const child = spawn(process.execPath, [...preloads.map((preload) => `--import=${pathToFileURL(preload)}`), file], {
    cwd: directory,
    env: { ...inherited, DRYTRACE_JOURNAL: journal, DRYTRACE_QUIET: '1', ...options.env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let stdout = ''
  let stderr = ''
  const finished = new Promise<Finished>((resolve) => {
    child.on('close', (code, signal) => resolve({ code, signal, stdout, stderr }))
  })
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text
  })
  return new Promise((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (code, signal) =>
      reject(new Error(`the service ended with ${code ?? signal}:\n${stdout}${stderr}`)),
    )
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text
      const port = Number(/LISTENING (\d+)/.exec(stdout)?.[1])
      if (!port) return
      resolve({
        url: `http://127.0.0.1:${port}`,
        port,
        journal,
        directory,
        process: child,
        stdout: () => stdout,
        stderr: () => stderr,
        stop() {
          child.kill('SIGKILL')
          return finished
        },
      })
    })
  })
}

export interface Answer {
  readonly status: number
  readonly headers: http.IncomingHttpHeaders
  readonly body: string
}

/** One request with plain `node:http`, so that nothing is added to or taken from the headers. */
export function request(
  url: string,
  options: { headers?: http.OutgoingHttpHeaders; method?: string; body?: string; agent?: http.Agent } = {},
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const { headers = {}, method = 'GET', body, agent } = options
    const outgoing = http.request(url, { headers, method, ...(agent === undefined ? {} : { agent }) }, (response) => {
      let text = ''
      response.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk
      })
      response.on('end', () => resolve({ status: response.statusCode ?? 0, headers: response.headers, body: text }))
      response.on('error', reject)
    })
    outgoing.on('error', reject)
    outgoing.end(body)
  })
}
