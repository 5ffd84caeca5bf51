/** Services that check a write without doing it, and how they are asked to. */
export const VALIDATIONS = ['sendgrid', 'aws-ec2', 'kubernetes'] as const
export type Validation = (typeof VALIDATIONS)[number]

/** A request that was held until it was whole. */
export interface HeldRequest {
  readonly method: string
  /** Where its bytes go, not what its Host header says. */
  readonly host: string
  /** Path with query. */
  readonly path: string
  /** By lower-case name. */
  readonly headers: Readonly<Record<string, string>>
  /** Null when it was not kept whole. */
  readonly body: Buffer | null
}

/** The request as it may be sent: the service will not act on it. */
export interface ValidationRequest {
  readonly path: string
  readonly body: Buffer
  /** For the report: what was asked of whom. */
  readonly mode: string
}

interface Refused {
  readonly refused: string
}

/** Headers that cover the body, and so break when it is changed. */
const BODY_DIGESTS = ['content-md5', 'digest', 'content-digest', 'repr-digest', 'signature', 'signature-input']
const OVERRIDES = ['x-http-method-override', 'x-http-method', 'x-method-override']

/**
 * Puts a request into the validation mode of the service it goes to, and
 * checks the result by reading it again. Whatever is not known to be safe is
 * refused: it stays blocked.
 */
export function validationRequest(validation: Validation, held: HeldRequest): ValidationRequest | Refused {
  const { headers, body } = held
  if (body === null) return { refused: 'its body is larger than what is held' }
  if ((headers['content-encoding'] ?? 'identity').toLowerCase() !== 'identity')
    return { refused: 'its body is compressed' }
  if (headers['upgrade'] !== undefined) return { refused: 'it is an upgrade' }
  const override = OVERRIDES.find((name) => headers[name] !== undefined)
  if (override !== undefined) return { refused: `${override} may make it another request` }
  if (/[#\s]/.test(held.path)) return { refused: 'its path is not one every server reads alike' }
  const made = MODES[validation]({ ...held, method: held.method.toUpperCase(), host: held.host.toLowerCase(), body })
  if ('refused' in made) return made
  const digest = BODY_DIGESTS.find((name) => headers[name] !== undefined)
  if (digest !== undefined && !made.body.equals(body))
    return { refused: `${digest} covers the body, which has to change` }
  return made
}

type Whole = HeldRequest & { readonly body: Buffer }

const MODES: Readonly<Record<Validation, (held: Whole) => ValidationRequest | Refused>> = {
  sendgrid({ method, host, path, headers, body }) {
    if (host !== 'api.sendgrid.com' && host !== 'api.eu.sendgrid.com') return { refused: `${host} is not SendGrid` }
    if (method !== 'POST' || path !== '/v3/mail/send')
      return { refused: 'SendGrid has its sandbox mode for POST /v3/mail/send only' }
    const mail = jsonObject(headers, body)
    if (mail === undefined) return { refused: 'its body is no JSON object' }
    const settings = mail['mail_settings'] ?? {}
    if (!isObject(settings)) return { refused: 'mail_settings is no object' }
    const sandboxed = { ...mail, mail_settings: { ...settings, sandbox_mode: { enable: true } } }
    const rewritten = Buffer.from(JSON.stringify(sandboxed))
    const seen = JSON.parse(rewritten.toString()) as typeof sandboxed
    if (seen.mail_settings.sandbox_mode.enable !== true) return { refused: 'the sandbox mode could not be set' }
    return { path, body: rewritten, mode: 'sent to SendGrid in its sandbox mode, which delivers nothing' }
  },

  // SigV4 signs the body, so the parameter has to be there already: nothing is changed here.
  'aws-ec2'({ method, host, path, headers, body }) {
    if (!/^ec2(-fips)?(\.[a-z0-9-]+)?\.(amazonaws\.com(\.cn)?|api\.aws)$/.test(host))
      return { refused: `${host} is not EC2` }
    if (method !== 'POST' || path !== '/') return { refused: 'EC2 is called by POST /' }
    const text = body.toString('latin1')
    if (!/^application\/x-www-form-urlencoded\b/i.test(headers['content-type'] ?? '') || text.includes(';')) {
      return { refused: 'its body is no form' }
    }
    const form = [...new URLSearchParams(text)]
    const flags = form.filter(([name]) => name.toLowerCase() === 'dryrun')
    const [flag] = flags
    if (flag === undefined) return { refused: 'it does not carry DryRun=true, and AWS signs the body' }
    if (flags.length > 1 || flag[0] !== 'DryRun' || flag[1] !== 'true') return { refused: 'its DryRun is not true' }
    if (form.filter(([name]) => name === 'Action').length !== 1) return { refused: 'it does not name one Action' }
    return { path, body, mode: 'sent to EC2 with the DryRun=true it came with, which changes nothing' }
  },

  kubernetes({ method, path, headers, body }) {
    const [plain = '', search = ''] = splitOnce(path)
    if (!['POST', 'PUT', 'PATCH', 'DELETE'].includes(method))
      return { refused: `Kubernetes has no dry run for ${method}` }
    if (!isBuiltInResource(plain)) {
      return { refused: 'its path is no resource that the API server itself is known to dry-run' }
    }
    const others = search.split('&').filter((pair) => pair !== '' && nameOf(pair).toLowerCase() !== 'dryrun')
    const rewritten = [...others, 'dryRun=All'].join('&')
    const seen = new URLSearchParams(rewritten).getAll('dryRun')
    if (seen.length !== 1 || seen[0] !== 'All') return { refused: 'dryRun=All could not be set' }
    const sent = { path: `${plain}?${rewritten}`, mode: 'sent to Kubernetes with dryRun=All, which stores nothing' }
    if (method !== 'DELETE' || body.length === 0) return { ...sent, body }
    // Of a DELETE with a body the API server takes its options from there, and ignores the query.
    const options = jsonObject(headers, body)
    if (options === undefined) return { refused: 'its DeleteOptions are not JSON' }
    const deletion = Buffer.from(JSON.stringify({ ...options, dryRun: ['All'] }))
    const { dryRun } = JSON.parse(deletion.toString()) as { dryRun: unknown }
    if (JSON.stringify(dryRun) !== '["All"]') return { refused: 'dryRun could not be set in its DeleteOptions' }
    return { ...sent, body: deletion }
  },
}

/** API groups that the API server serves itself. Others may be served by an extension that ignores dryRun. */
const GROUPS =
  'apps|autoscaling|batch|policy|(?:admissionregistration|apiextensions|apiregistration|certificates|coordination|discovery|events|flowcontrol\\.apiserver|networking|node|rbac\\.authorization|resource|scheduling|storage)\\.k8s\\.io'
const NAME = '[a-z0-9](?:[a-z0-9.:-]*[a-z0-9])?'
const RESOURCE = new RegExp(
  `^/(?:api/v1|apis/(?:${GROUPS})/v\\d+(?:(?:alpha|beta)\\d+)?)/(?:namespaces/${NAME}/)?([a-z]+)(?:/${NAME}(?:/(?:status|scale))?)?$`,
)
/** What looks like a resource in that place and is none, or is more than a record. */
const NO_RESOURCES: ReadonlySet<string> = new Set(['proxy', 'redirect', 'watch', 'finalize', 'bindings'])

function isBuiltInResource(path: string): boolean {
  const resource = RESOURCE.exec(path)?.[1]
  return resource !== undefined && !NO_RESOURCES.has(resource)
}

function jsonObject(headers: HeldRequest['headers'], body: Buffer): Record<string, unknown> | undefined {
  if (!/^application\/json\b/i.test(headers['content-type'] ?? '')) return undefined
  try {
    const value: unknown = JSON.parse(body.toString('utf8'))
    return isObject(value) ? value : undefined
  } catch {
    return undefined
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function splitOnce(path: string): [path: string, search: string] {
  const at = path.indexOf('?')
  return at < 0 ? [path, ''] : [path.slice(0, at), path.slice(at + 1)]
}

function nameOf(pair: string): string {
  return [...new URLSearchParams(pair).keys()][0] ?? ''
}
