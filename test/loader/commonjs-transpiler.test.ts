import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { runNode } from '../support/child.js'
import { type HttpWorld, startHttpWorld } from '../support/http-world.js'
import { INDEX_URL, outputOf, scratchTree } from '../support/scratch.js'

let world: HttpWorld
beforeAll(async () => {
  world = await startHttpWorld()
})
afterAll(() => world.stop())

/** What tsx, ts-node and @babel/register do: read and compile the file themselves, past every load hook. */
const TRANSPILER = `
const { readFileSync } = require('node:fs')
const Module = require('node:module')
globalThis.transpiled = []
Module._extensions['.js'] = function (module, filename) {
  globalThis.transpiled.push(filename)
  module._compile('/* transpiled */' + readFileSync(filename, 'utf8'), filename)
}
`

const APP = `
const undici = require('undici')
async function main() {
  const { armed, dryRun } = await import(${JSON.stringify(INDEX_URL)})
  const body = await dryRun({}, async () => (await undici.request(process.env.URL, { method: 'POST' })).body.json())
  console.log('OUT ' + JSON.stringify({
    body,
    status: armed().find(({ name }) => name === 'undici').status,
    seen: globalThis.transpiled.some((file) => file.endsWith('undici/lib/dispatcher/agent.js')),
  }))
}
main()
`

describe('a transpiler that replaces Module._extensions', () => {
  it.each(['before', 'after'] as const)('is met by way of _compile, loaded %s', async (order) => {
    const directory = scratchTree({ 'transpiler.cjs': TRANSPILER, 'app.cjs': APP })
    const finished = await runNode({
      register: true,
      [order]: [path.join(directory, 'transpiler.cjs')],
      file: path.join(directory, 'app.cjs'),
      env: { URL: world.url },
    })
    expect(outputOf(finished)).toEqual({ body: {}, status: 'armed', seen: true })
    expect(world.log).toEqual([])
  })
})
