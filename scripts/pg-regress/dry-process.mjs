import { fork } from 'node:child_process'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'

/** The process that is run dry. It executes one statement at a time, each on its session's connection. */
export function startDryProcess({ cluster, directory, guarded }) {
  mkdirSync(directory, { recursive: true })
  const policy = path.join(directory, 'policy.json')
  const budget = { writes: 1_000_000, repeats: 1_000_000, seconds: 86_400 }
  writeFileSync(policy, JSON.stringify({ version: 1, budget }))
  const journal = path.join(directory, 'journal')
  rmSync(journal, { recursive: true, force: true })
  const child = fork(new URL('./replay.mjs', import.meta.url), {
    execArgv: guarded ? ['--import', new URL('../../dist/register.js', import.meta.url).href] : [],
    env: {
      ...process.env,
      DRY_RUN: '1',
      DRYTRACE_JOURNAL: journal,
      DRYTRACE_POLICY: policy,
      DRYTRACE_QUIET: '1',
      PGTZ: 'PST8PDT',
    },
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  })
  let died
  let answer = () => undefined
  child.on('message', (message) => answer(message))
  const exited = new Promise((resolve) => {
    child.on('exit', (code, signal) => {
      died = `the dry process ended with ${signal ?? code}`
      answer({ code: 'DIED', message: died })
      resolve()
    })
  })
  child.send({ connection: { host: cluster.host, port: cluster.port } })
  return {
    /** `{ id, user, database, text }`; no text ends the session. Resolves with `{ code, message }` of an error. */
    execute(message) {
      if (died !== undefined) return Promise.resolve({ code: 'DIED', message: died })
      return new Promise((resolve) => {
        answer = resolve
        child.send(message)
      })
    },
    async stop() {
      if (child.connected) child.disconnect()
      await exited
    },
  }
}
