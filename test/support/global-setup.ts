import { existsSync, mkdirSync, rmSync } from 'node:fs'
import path from 'node:path'
import { REGISTER, ROOT } from './child.js'

// Of this run alone: another may be going on in the same tree.
const scratch = path.join(ROOT, `.build/test-${process.pid}`)

export function setup(): void {
  if (!existsSync(REGISTER)) throw new Error('dist/ is missing: tests run against the built package, use npm test')
  mkdirSync(scratch, { recursive: true })
  process.env['DRYTRACE_SCRATCH'] = scratch
}

export function teardown(): void {
  rmSync(scratch, { recursive: true, force: true })
}
