import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import path from 'node:path'
import { ROOT } from './child.js'

/** pg 8.11 with its cursors and streams, and pg-native: a package of its own, see there. */
export const PG_CLIENTS = path.join(ROOT, 'test/pg-clients')

/** False where `npm ci --prefix test/pg-clients` was not run. */
export const pgClientsInstalled = existsSync(path.join(PG_CLIENTS, 'node_modules/pg/package.json'))

/** False where the binding is not there or was not compiled. */
export const pgNativeInstalled = pgClientsInstalled && loads('pg-native')

/** Both are required in continuous integration, so that tests cannot be lost with them. */
export const mustHavePgClients = process.env['CI'] === 'true'

function loads(name: string): boolean {
  try {
    createRequire(path.join(PG_CLIENTS, 'package.json'))(name)
    return true
  } catch {
    return false
  }
}
