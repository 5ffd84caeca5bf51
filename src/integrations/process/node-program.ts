import { accessSync, closeSync, constants, openSync, readSync, realpathSync } from 'node:fs'
import path from 'node:path'

const SHELLS: ReadonlySet<string> = new Set(['sh', 'bash', 'dash', 'zsh', 'ash'])
const NODE = /^node(js)?(\.exe)?$/

/**
 * True when the command runs nothing but Node programs, which load the guard
 * and inherit the run: `node app.js`, a script with a node shebang (npm, tsx,
 * any CLI of `node_modules/.bin`), or a shell that runs only such.
 */
export function isNodeCommand(file: string, args: readonly string[], env: NodeJS.ProcessEnv, cwd: string): boolean {
  const name = path.basename(file)
  if (NODE.test(name)) return true
  if (SHELLS.has(name)) {
    const at = args.findIndex((arg) => /^-[a-z]*c$/.test(arg))
    const line = at < 0 ? undefined : args[at + 1]
    return line !== undefined && isNodeLine(line, env, cwd)
  }
  const found = resolveProgram(file, env, cwd)
  return found !== undefined && (NODE.test(path.basename(found)) || hasNodeShebang(found))
}

/** A shell line of simple commands joined by `&&` or `;`, each of them a Node command. Anything cleverer is not. */
function isNodeLine(line: string, env: NodeJS.ProcessEnv, cwd: string): boolean {
  const commands = parseLine(line)
  if (commands === undefined || commands.length === 0) return false
  return commands.every((words) => {
    const program = words.findIndex((word) => !/^\w+=/.test(word))
    const name = words[program] === 'exec' ? program + 1 : program
    const file = words[name]
    return file !== undefined && isNodeCommand(file, words.slice(name + 1), env, cwd)
  })
}

/** Words of each command; undefined for pipes, redirections, substitutions and the like. */
function parseLine(line: string): string[][] | undefined {
  const commands: string[][] = []
  let words: string[] = []
  const token = /\s+|&&|;|"((?:[^"\\$`]|\\.)*)"|'([^']*)'|([^\s"'\\$`|&;<>()*?#\n]+)/gy
  let glued = false
  while (token.lastIndex < line.length) {
    const match = token.exec(line)
    if (match === null) return undefined
    const word = match[1] ?? match[2] ?? match[3]
    if (word === undefined) {
      glued = false
      if (match[0].trim() === '') continue
      if (words.length > 0) commands.push(words)
      words = []
    } else if (glued) words[words.length - 1] += word
    else {
      words.push(word)
      glued = true
    }
  }
  if (words.length > 0) commands.push(words)
  return commands
}

function resolveProgram(file: string, env: NodeJS.ProcessEnv, cwd: string): string | undefined {
  const candidates = file.includes('/')
    ? [path.resolve(cwd, file)]
    : (env['PATH'] ?? '').split(path.delimiter).map((directory) => path.join(directory, file))
  for (const candidate of candidates) {
    try {
      accessSync(candidate, constants.X_OK)
      return realpathSync(candidate)
    } catch {}
  }
  return undefined
}

function hasNodeShebang(file: string): boolean {
  try {
    const fd = openSync(file, 'r')
    try {
      const head = Buffer.alloc(128)
      const length = readSync(fd, head, 0, head.length, 0)
      return /^#!.*\bnode\b/.test(head.toString('latin1', 0, length).split('\n', 1)[0] ?? '')
    } finally {
      closeSync(fd)
    }
  } catch {
    return false
  }
}
