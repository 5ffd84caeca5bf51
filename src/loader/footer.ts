import module from 'node:module'
import { fileURLToPath } from 'node:url'
import { type Manifest, type ManifestEntry, packageRootOf } from './manifest.js'

/**
 * A one-line footer is appended to the library files we meet. It runs at the
 * end of the module's own evaluation, before any other hook sees the exports,
 * so our wrapper is inside every other wrapper, whoever came first. Line
 * numbers do not move and nothing is parsed.
 */
const SENTINEL = '/*drytrace*/'
const PATCH_KEY = 'drytrace.patch'

/** What the footer calls. */
export type PatchFile = (
  entry: ManifestEntry,
  file: string,
  bindings: unknown,
  replace: ((value: unknown) => void) | undefined,
) => void

/** Which of the two hooks saw the probe. */
export interface LoaderProof {
  load: boolean
  compile: boolean
}

interface CompilableModule {
  _compile(content: string, filename: string, ...rest: unknown[]): unknown
}

export function installFooters(manifest: Manifest, patch: PatchFile): LoaderProof {
  const proof: LoaderProof = { load: false, compile: false }
  Object.defineProperty(globalThis, Symbol.for(PATCH_KEY), {
    value(id: number, file: string, bindings: unknown, replace?: (value: unknown) => void) {
      const entry = manifest.entries[id]
      if (entry === undefined || isWrapper(file, bindings)) return
      patch(entry, file.startsWith('file:') ? fileURLToPath(withoutQuery(file)) : file, bindings, replace)
    },
  })

  const find = (filename: string): ManifestEntry | undefined =>
    manifest.candidates(filename).find((entry) => packageRootOf(entry, filename) !== undefined)

  module.registerHooks({
    load(url, context, nextLoad) {
      const result = nextLoad(url, context)
      const location = withoutQuery(url)
      if (result.source == null || !location.startsWith('file:')) return result
      const filename = fileURLToPath(location)
      const entry = find(filename)
      if (entry === undefined) return result
      if (entry.probe !== undefined) proof.load = true
      return { ...result, source: append(textOf(result.source), entry, result.format === 'module') }
    },
  })

  // Transpilers of CommonJS (tsx and its like) replace Module._extensions and never reach the load hook.
  const prototype = module.Module.prototype as unknown as CompilableModule
  const compile = prototype._compile
  prototype._compile = function _compile(content, filename, ...rest) {
    const entry = find(filename)
    if (entry === undefined) return Reflect.apply(compile, this, [content, filename, ...rest])
    if (entry.probe !== undefined) proof.compile = true
    return Reflect.apply(compile, this, [append(content, entry, false), filename, ...rest])
  }
  return proof
}

/**
 * import-in-the-middle puts a module of its own in front of each ES module, under the same path and with
 * a query. It declares none of the names we look for; the real module comes by separately.
 */
function isWrapper(url: string, bindings: unknown): boolean {
  return /[?&]iitm\b/.test(url) && Object.values(bindings as object).every((value) => value === undefined)
}

function withoutQuery(url: string): string {
  return url.split('?', 1)[0] ?? url
}

function append(source: string, entry: ManifestEntry, esm: boolean): string {
  if (source.includes(SENTINEL)) return source
  const call = `globalThis[Symbol.for(${JSON.stringify(PATCH_KEY)})]`
  // `typeof` does not throw for a name this version of the library does not have.
  const bindings = (entry.target.bindings ?? []).map((name) => `${name}:typeof ${name}==='undefined'?undefined:${name}`)
  const { defaultExport } = entry.target
  if (esm && defaultExport !== undefined) return appendReplacing(source, entry, bindings, defaultExport)
  const args = esm
    ? `${entry.id},import.meta.url,{${bindings.join(',')}}`
    : `${entry.id},__filename,module.exports,(value)=>{module.exports=value}`
  return `${source}\n;${SENTINEL}${call}(${args});\n`
}

/**
 * `export default name` exports the value it has at that moment; under another
 * spelling it is a live binding, which the footer can set. A module that is
 * written differently is patched without the means to replace, which fails.
 */
function appendReplacing(source: string, entry: ManifestEntry, bindings: readonly string[], name: string): string {
  const live = source.replace(new RegExp(`^export default ${name};?[ \\t]*$`, 'm'), `export { ${name} as default };`)
  const replace = live === source ? '' : `,(value)=>{${name}=value}`
  const call = `globalThis[Symbol.for(${JSON.stringify(PATCH_KEY)})]`
  return `${live}\n;${SENTINEL}${call}(${entry.id},import.meta.url,{${bindings.join(',')}}${replace});\n`
}

/** `String(bytes)` would be "105,109,…": valid JavaScript that silently empties the module. */
function textOf(source: string | ArrayBuffer | NodeJS.TypedArray): string {
  return typeof source === 'string' ? source : new TextDecoder().decode(source)
}
