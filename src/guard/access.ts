import { DryTraceError } from '../errors.js'
import { shared } from '../run/store.js'
import type { Guard } from './guard.js'

/**
 * The guard of this process.
 * @throws DryTraceError `DRY_NOT_ARMED` when `drytrace/register` has not been loaded.
 */
export function requireGuard(): Guard {
  const guard = shared.slots.get('guard') as Guard | undefined
  if (guard !== undefined) return guard
  throw new DryTraceError(
    'DRY_NOT_ARMED',
    'a dry run was asked for, but nothing is guarded: start the process with node --import drytrace/register',
  )
}
