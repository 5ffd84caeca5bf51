import { spawn } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { freePort } from './postgres.mjs'

const SERVER = fileURLToPath(new URL('../service/server.mjs', import.meta.url))
const START_TIMEOUT_MS = 20_000
const STOP_TIMEOUT_MS = 10_000

/**
 * Starts the service as its own process, as in production, and waits for its
 * health check.
 *
 * @param {{env: Record<string, string>, preload?: string, onLine?: (line: string) => void}} options `preload` is a
 *   module for `--import`; `onLine` gets each line of the service's log
 * @returns {Promise<{url: string, pid: number, log: string[], post: Function, stop: () => Promise<number | null>}>}
 */
export async function startService({ env, preload, onLine = () => {} }) {
  const port = await freePort()
  const child = spawn(process.execPath, [...(preload ? ['--import', preload] : []), SERVER], {
    env: { PATH: process.env.PATH, HOME: process.env.HOME, ...env, PORT: String(port) },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const log = []
  for (const stream of [child.stdout, child.stderr]) {
    let rest = ''
    stream.setEncoding('utf8').on('data', (chunk) => {
      const lines = (rest + chunk).split('\n')
      rest = lines.pop()
      for (const line of lines) {
        log.push(line)
        onLine(line)
      }
    })
  }
  // A killed demo must not leave the service behind.
  const killWithParent = () => child.kill('SIGKILL')
  process.once('exit', killWithParent)
  const exited = new Promise((resolve) => child.once('exit', resolve)).then(() => process.off('exit', killWithParent))
  const url = `http://127.0.0.1:${port}`

  async function stop() {
    if (child.exitCode !== null || child.signalCode !== null) return child.exitCode
    child.kill('SIGTERM')
    const killer = setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT_MS)
    await exited
    clearTimeout(killer)
    return child.exitCode
  }

  const deadline = Date.now() + START_TIMEOUT_MS
  while (!(await healthy(url))) {
    if (child.exitCode !== null || child.signalCode !== null || Date.now() > deadline) {
      await stop()
      throw new Error(`the service did not start:\n${log.join('\n')}`)
    }
    await sleep(100)
  }

  return {
    url,
    pid: child.pid,
    log,
    /** Sends one inbound mail. Resolves to the status and the parsed answer. */
    async post(mail, headers = {}) {
      const response = await fetch(`${url}/inbound-mail`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', ...headers },
        body: JSON.stringify(mail),
      })
      const text = await response.text()
      return { status: response.status, body: parseJson(text) }
    },
    stop,
  }
}

async function healthy(url) {
  try {
    return (await fetch(`${url}/health`)).ok
  } catch {
    return false
  }
}

function parseJson(text) {
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}
