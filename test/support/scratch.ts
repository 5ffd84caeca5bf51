import { mkdirSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { REGISTER, scratchDirectory } from './child.js'

/** The package's main entry as a URL, for programs that import it by place. */
export const INDEX_URL = `file://${path.join(path.dirname(REGISTER), 'index.js')}`

/** A fresh directory with these files; values are text, or JSON where they are objects. */
export function scratchTree(files: Readonly<Record<string, string | object>>): string {
  const directory = scratchDirectory()
  for (const [name, content] of Object.entries(files)) {
    const file = path.join(directory, name)
    mkdirSync(path.dirname(file), { recursive: true })
    writeFileSync(file, typeof content === 'string' ? content : JSON.stringify(content))
  }
  return directory
}

/** What a program printed as `OUT <json>`. */
export function outputOf<T = unknown>({ stdout, stderr }: { stdout: string; stderr: string }): T {
  const line = stdout.split('\n').find((text) => text.startsWith('OUT '))
  if (line === undefined) throw new Error(`the program printed no result:\n${stdout}${stderr}`)
  return JSON.parse(line.slice(4)) as T
}
