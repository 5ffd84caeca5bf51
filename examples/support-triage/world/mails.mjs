import { randomBytes } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'

const DIRECTORY = new URL('../mails/', import.meta.url)

/** The mails in the order of their names: `{name, about, mail}`, `mail` as the service takes it. */
export async function loadMails() {
  const names = (await readdir(DIRECTORY)).filter((name) => name.endsWith('.json')).sort()
  return Promise.all(
    names.map(async (name) => {
      const { about, ...mail } = JSON.parse(await readFile(new URL(name, DIRECTORY), 'utf8'))
      return { name: name.replace(/\.json$/, ''), about, mail }
    }),
  )
}

/** A new dry run: its id, and the headers that put a request into it. Each request is a trace of its own. */
export function newDryRun() {
  const runId = `support-${randomBytes(4).toString('hex')}`
  return {
    runId,
    headers: () => ({
      baggage: `dry_run=true,dry_run.run.id=${runId}`,
      traceparent: `00-${randomBytes(16).toString('hex')}-${randomBytes(8).toString('hex')}-01`,
    }),
  }
}
