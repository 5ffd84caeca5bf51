import { DryTraceError } from '../errors.js'
import { checkNodeFloor } from './node-floor.js'

// Evaluated before everything else that register.ts imports, so that the refusal comes first.
const refusal = checkNodeFloor()
if (refusal !== undefined) throw new DryTraceError('DRY_NODE_UNSUPPORTED', refusal)
