import { expect, it } from 'vitest'
import { runNode } from '../support/child.js'
import { startHttpWorld } from '../support/http-world.js'

it('an application with stack traces of its own connects live as ever, and its connection closes the gate', async () => {
  const world = await startHttpWorld()
  try {
    const { stdout, stderr, code } = await runNode({
      register: true,
      source: `
        import net from 'node:net'
        import { dryRun } from 'drytrace'
        Error.prepareStackTrace = (_, callSites) => callSites
        const { hostname, port } = new URL(process.env.URL)
        const socket = net.connect(Number(port), hostname)
        await new Promise((resolve, reject) => socket.on('connect', resolve).on('error', reject))
        const refused = await dryRun({}, () => 'ran').catch((error) => error.code)
        socket.destroy()
        console.log(refused)
      `,
      env: world.env,
    })
    expect(code, stderr).toBe(0)
    expect(stdout.trim()).toBe('DRY_GATE_CLOSED')
  } finally {
    await world.stop()
  }
})
