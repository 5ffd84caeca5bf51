#!/usr/bin/env node
import { checkNodeFloor } from '../loader/node-floor.js'

// A reader that closes its end (`drytrace report | head`) is no error of ours.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error
})

const refusal = checkNodeFloor()
if (refusal === undefined) {
  // Loaded only now: on an older Node it would fail on a missing builtin, without a word about the reason.
  const { dispatch } = await import('./dispatch.js')
  process.exitCode = await dispatch(process.argv.slice(2))
} else {
  process.stderr.write(`drytrace: ${refusal}\n`)
  process.exitCode = process.argv[2] === 'doctor' ? 1 : 2
}
