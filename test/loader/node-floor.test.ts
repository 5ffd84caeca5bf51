import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import path from 'node:path'
import { describe, expect, it } from 'vitest'
import { checkNodeFloor } from '../../src/loader/node-floor.js'
import { OTEL, REGISTER, ROOT, runCommand } from '../support/child.js'
import { scratchTree } from '../support/scratch.js'

describe('the Node floor', () => {
  it.each(['22.22.3', '22.22.10', '22.23.0', '24.11.1', '24.12.0', '24.21.0', '26.0.0', '27.1.0', '30.0.0'])(
    '%s is served',
    (version) => {
      expect(checkNodeFloor(version)).toBeUndefined()
    },
  )

  it.each(['18.20.8', '20.20.2', '21.7.3', '22.0.0', '22.22.2', '23.11.0', '24.0.0', '24.11.0', '25.2.0'])(
    '%s is refused, in words',
    (version) => {
      expect(checkNodeFloor(version)).toContain(`this is ${version}`)
      expect(checkNodeFloor(version)).toContain('^22.22.3, ^24.11.1 or >=26')
    },
  )
})

const old = findOldNode()
if (old === undefined) console.warn('no Node below the floor on this machine: its refusal is not tested')

describe.skipIf(old === undefined)('a Node below the floor', () => {
  const directory = scratchTree({
    'app.cjs': "require('node:fs').writeFileSync(process.env.RAN, 'ran')",
    'app.mjs': "import { writeFileSync } from 'node:fs'; writeFileSync(process.env.RAN, 'ran')",
  })

  it.each([
    ['--import', REGISTER, 'app.mjs'],
    ['--import', REGISTER, 'app.cjs'],
    ['--require', REGISTER, 'app.cjs'],
    ['--import', OTEL, 'app.mjs'],
  ])('never gets to the application: %s %s %s', async (flag, preload, app) => {
    const ran = path.join(directory, `${flag}-${path.basename(preload)}-${app}.ran`)
    const finished = await runCommand(old as string, [flag, preload, path.join(directory, app)], {
      env: { RAN: ran },
      cwd: directory,
    })
    expect(finished.code).not.toBe(0)
    expect(finished.stderr).toContain('drytrace needs Node ^22.22.3')
    expect(finished.stderr).toContain('DRY_NODE_UNSUPPORTED')
    expect(existsSync(ran)).toBe(false)
  })
})

/** The host's own Node, when it is too old for us: the toolchain's is first on PATH. */
function findOldNode(): string | undefined {
  const directories = (process.env['PATH'] ?? '').split(path.delimiter).filter((entry) => !entry.startsWith(ROOT))
  for (const directory of [...directories, '/usr/bin', '/usr/local/bin']) {
    const node = path.join(directory, 'node')
    if (!existsSync(node)) continue
    const version = execFileSync(node, ['-p', 'process.versions.node'], { encoding: 'utf8' }).trim()
    if (checkNodeFloor(version) !== undefined) return node
  }
  return undefined
}
