// First: it throws on a Node that cannot be guarded, before anything else is evaluated.
import './loader/require-node-floor.js'
import { registerGuard } from './arm.js'

registerGuard()
