import { readFileSync } from 'node:fs'
import { DryTraceError, messageOf } from '../errors.js'
import type { Barrier } from '../guard/barrier.js'
import type { Policy } from '../policy/policy.js'
import type { Flag } from '../run/flag.js'
import type { Run } from '../run/run.js'
import { beginRun, enterRun } from '../run/store.js'
import { verifyToken } from '../run/token.js'

/** Who is asking. */
export interface Peer {
  /** True when nothing but this machine can be behind it. */
  readonly loopback: boolean
  readonly name: string
}

export interface Admission {
  /**
   * The run the flag asks for, when its sender may ask and the guard is whole.
   * @throws DryTraceError `DRY_FLAG_REFUSED`, `DRY_GATE_CLOSED` or `DRY_JOURNAL`: refuse the request, never run it live.
   */
  admit(flag: Flag, peer: Peer, entry: string): Run
}

export function createAdmission(policy: Policy, barrier: Barrier, secret: string | undefined): Admission {
  const signed = policy.trust.mode === 'signed' || secret !== undefined
  return {
    admit(flag, peer, entry) {
      const gaps = barrier.gaps()
      if (gaps.length > 0) {
        throw new DryTraceError('DRY_GATE_CLOSED', `dry runs are refused here: ${gaps.join('; ')}`, {
          details: { gaps },
        })
      }
      const runId = signed ? checkToken(flag, policy, secret) : checkPeer(flag, peer)
      const run = enterRun({
        ...(runId === undefined ? {} : { id: runId }),
        entry,
        carriers: flag.carriers,
        conflict: flag.conflict,
        token: flag.token ?? null,
      })
      beginRun(run)
      return run
    },
  }
}

function checkToken(flag: Flag, policy: Policy, secret: string | undefined): string {
  if (flag.token === undefined) {
    throw refused(
      'a dry run was asked for without a token (baggage dry_run.token), and this service takes signed flags only',
    )
  }
  try {
    const claims = verifyToken(flag.token, { secret: secret ?? '', audience: policy.trust.audience })
    if (flag.runId !== undefined && flag.runId !== claims.runId) {
      throw refused(`the token is for run ${claims.runId}, the flag for run ${flag.runId}`)
    }
    return claims.runId
  } catch (cause) {
    throw cause instanceof DryTraceError && cause.code === 'DRY_FLAG_REFUSED' ? cause : refused(messageOf(cause), cause)
  }
}

function checkPeer(flag: Flag, peer: Peer): string | undefined {
  if (!peer.loopback) {
    throw refused(
      `a dry run was asked for by ${peer.name}; without DRYTRACE_SECRET only direct loopback peers may ask for one`,
    )
  }
  return flag.runId
}

function refused(message: string, cause?: unknown): DryTraceError {
  return new DryTraceError('DRY_FLAG_REFUSED', message, { cause })
}

/** `DRYTRACE_SECRET`: the secret itself, or `file:/path` of a file that holds it. */
export function readSecret(value = process.env['DRYTRACE_SECRET']): string | undefined {
  if (value === undefined || value === '') return undefined
  if (!value.startsWith('file:')) return value
  try {
    const secret = readFileSync(value.slice('file:'.length), 'utf8').trim()
    if (secret !== '') return secret
  } catch (cause) {
    throw new DryTraceError('DRY_POLICY_INVALID', `DRYTRACE_SECRET: ${messageOf(cause)}`, { cause })
  }
  throw new DryTraceError('DRY_POLICY_INVALID', `DRYTRACE_SECRET: ${value.slice('file:'.length)} is empty`)
}
