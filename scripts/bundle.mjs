// Puts what a preload evaluates into one file. A process that starts with the preload loads about a hundred and fifty
// modules of ours otherwise, and finding, reading and linking them is most of what it waits for.
//
// Every entry point that can meet the guard in one process goes through the same build, so that there is one copy of
// each module. register.js and otel.js stay as they are: the check of the Node version must come before all else.
import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { rolldown } from 'rolldown'

const dist = path.resolve(fileURLToPath(new URL('..', import.meta.url)), process.argv[2] ?? 'dist')
const entries = ['arm', 'index', 'testing', 'policy/parse', 'policy/policy-module', 'telemetry/start-sdk']

const BUILTIN = /^import (?:(?<whole>\w+)|\{(?<named>[^}]*)\}) from '(?<from>node:[^']+)';?$/gm

/** Names the modules take from each builtin. */
function takenNames() {
  const taken = new Map()
  for (const file of readdirSync(dist, { recursive: true })) {
    if (!file.endsWith('.js')) continue
    for (const { groups } of readFileSync(path.join(dist, file), 'utf8').matchAll(BUILTIN)) {
      const names = taken.get(groups.from) ?? new Set()
      for (const name of (groups.named ?? '').split(',')) names.add(name.trim().split(' as ')[0])
      taken.set(groups.from, names)
    }
  }
  return taken
}

/**
 * An import of a builtin has Node read every one of its exports, and with the lazy ones half of its library. Taken
 * like this the names are read once and kept, as with an import: what patches a builtin later does not reach us.
 */
const taken = takenNames()
const takeBuiltins = {
  name: 'take-builtins',
  resolveId(id) {
    return id.startsWith('node:') ? { id: `\0${id}`, moduleSideEffects: false } : undefined
  },
  load(id) {
    if (!id.startsWith('\0node:')) return undefined
    const names = [...(taken.get(id.slice(1)) ?? [])].filter((name) => name !== '')
    const lines = names.map((name) => `export const ${name} = builtin.${name}`)
    return `const builtin = process.getBuiltinModule('${id.slice(1)}')\nexport default builtin\n${lines.join('\n')}`
  },
}

const bundle = await rolldown({
  input: Object.fromEntries(entries.map((name) => [name, path.join(dist, `${name}.js`)])),
  platform: 'node',
  plugins: [takeBuiltins],
  // Packages stay packages. errors.js is loaded with the check of the Node version, before the bundle.
  external: (id) =>
    (!id.startsWith('node:') && /^[^./\0]/.test(id) && !path.isAbsolute(id)) || /[\\/]errors\.js$/.test(id),
  onLog(level, log, report) {
    if (level === 'warn') throw new Error(log.message)
    report(level, log)
  },
})
await bundle.write({
  dir: dist,
  format: 'esm',
  sourcemap: true,
  entryFileNames: '[name].js',
  // One level below dist/, as the modules are that look for files of the package.
  chunkFileNames: 'chunks/[name].js',
  codeSplitting: {
    groups: [{ name: 'guard', test: (id) => id === path.join(dist, 'arm.js') }],
  },
})
