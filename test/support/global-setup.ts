import { existsSync, mkdirSync, rmSync } from 'node:fs'
import path from 'node:path'
import { REGISTER, ROOT } from './child.js'

const scratch = path.join(ROOT, '.build/test')

export function setup(): void {
  if (!existsSync(REGISTER)) throw new Error('dist/ is missing: tests run against the built package, use npm test')
  mkdirSync(scratch, { recursive: true })
}

export function teardown(): void {
  rmSync(scratch, { recursive: true, force: true })
}
