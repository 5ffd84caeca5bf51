import { readFileSync } from 'node:fs'
import path from 'node:path'
import { expect, it } from 'vitest'
import { ROOT } from '../support/child.js'

it('what is generated is up to date', async () => {
  const { files } = (await import(path.join(ROOT, 'scripts/generated.mjs'))) as { files: Record<string, string> }
  for (const [name, text] of Object.entries(files)) {
    expect(readFileSync(path.join(ROOT, name), 'utf8'), `${name}: run npm run generate`).toBe(text)
  }
})
