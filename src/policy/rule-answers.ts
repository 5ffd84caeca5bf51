import { createHash } from 'node:crypto'
import { readFileSync, statSync } from 'node:fs'
import { createRequire } from 'node:module'
import path from 'node:path'
import { messageOf } from '../errors.js'
import { ownFile } from '../package/own-file.js'
import type { Respond, RespondFunction } from './http/respond.js'
import type { PolicySource } from './policy-source.js'
import type { PolicyRule } from './schema.js'

/** Bytes of a file that is served or read: it is kept in memory, so that no answer waits for the disk. */
const MAX_FILE = 8 * 1024 * 1024

const CONTENT_TYPES: Readonly<Record<string, string>> = {
  '.css': 'text/css; charset=utf-8',
  '.csv': 'text/csv; charset=utf-8',
  '.gif': 'image/gif',
  '.htm': 'text/html; charset=utf-8',
  '.html': 'text/html; charset=utf-8',
  '.jpeg': 'image/jpeg',
  '.jpg': 'image/jpeg',
  '.js': 'text/javascript; charset=utf-8',
  '.json': 'application/json',
  '.md': 'text/markdown; charset=utf-8',
  '.ndjson': 'application/x-ndjson',
  '.pdf': 'application/pdf',
  '.png': 'image/png',
  '.svg': 'image/svg+xml',
  '.txt': 'text/plain; charset=utf-8',
  '.xml': 'application/xml',
  '.yaml': 'application/yaml',
  '.yml': 'application/yaml',
  '.zip': 'application/zip',
}

export interface PreparedAnswers {
  /** By rule name; rules whose `respond` is all there is to it are left out. */
  readonly answers: ReadonlyMap<string, Respond>
  readonly problems: readonly string[]
  /** SHA-256 (hex) of each file that was read: another content is another policy. */
  readonly digests: readonly string[]
}

/** Reads the files that rules answer with. */
export function prepareAnswers(
  source: PolicySource,
  rules: readonly PolicyRule[],
  functions: ReadonlyMap<number, RespondFunction>,
): PreparedAnswers {
  const answers = new Map<string, Respond>()
  const problems: string[] = []
  const digests: string[] = []
  for (const [index, { name, match, respond }] of rules.entries()) {
    const rule = `rule ${JSON.stringify(name)}`
    const at = (field: string) => `${source.file}:${source.line(['rules', index, ...field.split('.')])}: ${rule}: `
    const read = (field: 'file' | 'openapi', given: string): { file: string; bytes: Buffer } | undefined => {
      const file = path.resolve(path.dirname(source.file), given)
      try {
        const bytes = readWhole(file)
        digests.push(createHash('sha256').update(bytes).digest('hex'))
        return { file, bytes }
      } catch (error) {
        problems.push(
          `${at(`respond.${field}`)}rules.${index}.respond.${field}: ${file} cannot be read (${messageOf(error)})`,
        )
        return undefined
      }
    }
    const compute = functions.get(index)
    if (compute !== undefined) {
      if (match.system !== undefined && match.system !== 'http') {
        problems.push(`${at('respond')}rules.${index}.respond: a function answers HTTP requests: system must be http`)
      }
      answers.set(name, { compute })
    } else if (respond?.file !== undefined) {
      const found = read('file', respond.file)
      if (found === undefined) continue
      const contentType = CONTENT_TYPES[path.extname(found.file).toLowerCase()] ?? 'application/octet-stream'
      const { status, headers } = respond
      answers.set(name, {
        ...(status === undefined ? {} : { status }),
        ...(headers === undefined ? {} : { headers }),
        content: { bytes: found.bytes, contentType },
      })
    } else if (respond?.openapi !== undefined) {
      const found = read('openapi', respond.openapi)
      if (found === undefined) continue
      // Loads two libraries: only for a policy that has such a rule.
      const { readOpenApi } = createRequire(import.meta.url)(
        ownFile('policy/http/openapi/document.js'),
      ) as typeof import('./http/openapi/document.js')
      const document = readOpenApi(found.bytes.toString('utf8'))
      if ('problems' in document) {
        problems.push(...document.problems.map(({ line, message }) => `${found.file}:${line}: ${rule}: ${message}`))
      } else answers.set(name, { document })
    }
  }
  return { answers, problems, digests }
}

function readWhole(file: string): Buffer {
  const status = statSync(file)
  // Reading a pipe would wait for ever.
  if (!status.isFile()) throw new Error('not a file')
  const { size } = status
  if (size > MAX_FILE) throw new Error(`${size} bytes; at most ${MAX_FILE} are served`)
  return readFileSync(file)
}
