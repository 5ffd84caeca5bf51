import { accessSync, closeSync, constants, openSync, readSync, realpathSync } from 'node:fs'
import path from 'node:path'

const SHELLS: ReadonlySet<string> = new Set(['sh', 'bash', 'dash', 'zsh', 'ash'])
const SYSTEM_PLACE = /^\/(usr\/|usr\/local\/|opt\/homebrew\/)?bin\//
const NODE = /^node(js)?(\.exe)?$/

/** What a shell line may not set for the programs it runs: the guard of the child, its run, or which program it is. */
const DECISIVE = /^(NODE_OPTIONS|DRY_RUN|DRYTRACE_\w+|BAGGAGE|TRACESTATE|PATH|LD_PRELOAD|DYLD_\w+)=/

/** Scripts that are run by scripts that are run by scripts: enough. */
const MAX_SHEBANGS = 4

/**
 * True when the command runs nothing but Node programs, which load the guard
 * and inherit the run: `node app.js`, a script with a node shebang (npm, tsx,
 * any CLI of `node_modules/.bin`), or a shell that runs only such.
 */
export function isNodeCommand(file: string, args: readonly string[], env: NodeJS.ProcessEnv, cwd: string): boolean {
  if (SHELLS.has(path.basename(file))) return isNodeShell(file, args, env, cwd)
  // `node --run` starts a shell before any preload is read.
  return isNodeProgram(file, env, cwd) && !args.some((arg) => /^--run(=|$)/.test(arg))
}

/** `sh -c <line>` of a genuine shell that reads no start-up file of the caller's choice. */
function isNodeShell(file: string, args: readonly string[], env: NodeJS.ProcessEnv, cwd: string): boolean {
  const [option, line] = args
  if (option === undefined || line === undefined || !/^-[a-z]*c$/.test(option)) return false
  if (env['ENV'] || env['BASH_ENV'] || env['ZDOTDIR']) return false
  const found = resolveProgram(file, env, cwd)
  const genuine = file.includes('/') ? SYSTEM_PLACE.test(file) : found === undefined || shebangOf(found) === undefined
  return genuine && isNodeLine(line, env, cwd)
}

/** A shell line of simple commands joined by `&&`, `;` or a line break, each of them a Node command. Anything cleverer is not. */
function isNodeLine(line: string, env: NodeJS.ProcessEnv, cwd: string): boolean {
  const commands = parseLine(line)
  if (commands === undefined || commands.length === 0) return false
  return commands.every((words) => {
    const program = words.findIndex((word) => !/^\w+=/.test(word))
    if (words.slice(0, program).some((word) => DECISIVE.test(word))) return false
    const name = words[program] === 'exec' ? program + 1 : program
    const file = words[name]
    return file !== undefined && isNodeCommand(file, words.slice(name + 1), env, cwd)
  })
}

/** Words of each command; undefined for pipes, redirections, substitutions and the like. */
function parseLine(line: string): string[][] | undefined {
  const commands: string[][] = []
  let words: string[] = []
  const token = /[ \t]+|&&|[;\n]|"((?:[^"\\$`]|\\.)*)"|'([^']*)'|([^\s"'\\$`|&;<>()*?#]+)/gy
  let glued = false
  while (token.lastIndex < line.length) {
    const match = token.exec(line)
    if (match === null) return undefined
    const word = match[1] ?? match[2] ?? match[3]
    if (word === undefined) {
      glued = false
      if (/^[ \t]/.test(match[0])) continue
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

/** By what the file is, not by what it is called: a script named `node` is whatever its first line says. */
function isNodeProgram(file: string, env: NodeJS.ProcessEnv, cwd: string, depth = 0): boolean {
  const found = resolveProgram(file, env, cwd)
  // No PATH: the system's default decides, and what it finds under this name is Node or nothing.
  if (found === undefined) return NODE.test(file)
  const shebang = shebangOf(found)
  if (shebang === undefined) return NODE.test(path.basename(found))
  const [interpreter = '', ...words] = shebang.split(/[ \t]+/)
  const program = path.basename(interpreter) === 'env' ? words.find((word) => word !== '-S') : interpreter
  return program !== undefined && depth < MAX_SHEBANGS && isNodeProgram(program, env, cwd, depth + 1)
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

/** The first line of a script after `#!`; undefined for a binary. */
function shebangOf(file: string): string | undefined {
  try {
    const fd = openSync(file, 'r')
    try {
      const head = Buffer.alloc(256)
      const length = readSync(fd, head, 0, head.length, 0)
      return /^#!\s*(.*)/.exec(head.toString('latin1', 0, length))?.[1]?.trim()
    } finally {
      closeSync(fd)
    }
  } catch {
    // Cannot be read, so it cannot be known: no Node program.
    return ''
  }
}
