import { writeFileSync } from 'node:fs'
import path from 'node:path'
import { describe, expect, it } from 'vitest'
import { DIST, runNode, scratchDirectory } from '../support/child.js'
import { INDEX_URL, outputOf } from '../support/scratch.js'

/** Lists what is loaded after it, by URL. */
function listing(): string {
  const file = path.join(scratchDirectory(), 'listing.mjs')
  writeFileSync(
    file,
    `import module from 'node:module'
    globalThis.loaded = []
    module.registerHooks({ load(url, context, next) { globalThis.loaded.push(url); return next(url, context) } })`,
  )
  return file
}

const OURS = `globalThis.loaded.filter((url) => url.includes(${JSON.stringify(`${DIST}/`)})).map((url) => url.split('/dist/')[1])`
const PACKAGES = `globalThis.loaded.flatMap((url) => /.*node_modules[/]((?:@[^/]+[/])?[^/]+)/.exec(url)?.[1] ?? [])`

describe('a live process that starts with the preload', () => {
  it('loads one file of ours beside the check of the Node version, and no package', async () => {
    const finished = await runNode({
      before: [listing()],
      register: true,
      source: `console.log('OUT ' + JSON.stringify({ ours: ${OURS}.sort(), packages: ${PACKAGES} }))`,
    })
    expect(outputOf(finished)).toEqual({
      // Node 22 loads them in another order than it evaluates them in.
      ours: [
        'arm.js',
        'chunks/guard.js',
        'errors.js',
        'loader/node-floor.js',
        'loader/probe.cjs',
        'loader/require-node-floor.js',
        'register.js',
      ],
      packages: [],
    })
  })

  it('shares every module with what the application imports', async () => {
    const finished = await runNode({
      before: [listing()],
      register: true,
      source: `
        const { dryRun, DryRunPropagator } = await import(${JSON.stringify(INDEX_URL)})
        await import(${JSON.stringify(INDEX_URL.replace('index.js', 'testing.js'))})
        await dryRun({}, () => {})
        const files = ${OURS}
        console.log('OUT ' + JSON.stringify({ modules: files.filter((file) => /^(run|guard|carriers|integrations|sql)[/]/.test(file)), once: new Set(files).size === files.length }))
      `,
    })
    expect(outputOf(finished)).toEqual({ modules: [], once: true })
  })
})
