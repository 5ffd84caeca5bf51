/**
 * The attribute registry: every `dry_run.*` name, and the few OpenTelemetry
 * names we set ourselves. Names are copied, not imported, because several of
 * the upstream ones are still in development and move between packages.
 *
 * Source of the upstream names: OpenTelemetry semantic conventions 1.45.
 */

// On every span of a dry run.
export const ATTR_ENABLED = 'dry_run.enabled'
export const ATTR_RUN_ID = 'dry_run.run.id'
export const ATTR_CASE_ID = 'dry_run.case.id'

// On effect spans.
export const ATTR_EFFECT = 'dry_run.effect'
export const ATTR_OUTCOME = 'dry_run.outcome'
export const ATTR_ACTION = 'dry_run.action'
export const ATTR_SYSTEM = 'dry_run.system'
export const ATTR_TARGET = 'dry_run.target'
export const ATTR_RULE = 'dry_run.rule'
export const ATTR_REASON = 'dry_run.reason'
export const ATTR_HOOK_NAME = 'dry_run.hook.name'
export const ATTR_HOOK_VERSION = 'dry_run.hook.version'
export const ATTR_PREVIEW_METHOD = 'dry_run.preview.method'
export const ATTR_PREVIEW_ROWS = 'dry_run.preview.rows'
export const ATTR_PREVIEW_DIFF = 'dry_run.preview.diff'
export const ATTR_SIMULATION_FIDELITY = 'dry_run.simulation.fidelity'
export const ATTR_SYNTHETIC_IDS = 'dry_run.synthetic.ids'
export const ATTR_SYNTHETIC_USED = 'dry_run.synthetic.used'
export const ATTR_FINGERPRINT = 'dry_run.fingerprint'
export const ATTR_PAYLOAD_DIGEST = 'dry_run.payload.digest'
export const ATTR_PAYLOAD_SIZE = 'dry_run.payload.size'
export const ATTR_MAIL_RECIPIENT_COUNT = 'dry_run.mail.recipient.count'
/** The blocked writes of the run that a read was answered with. */
export const ATTR_OVERLAY_WRITES = 'dry_run.overlay.writes'

// On entry spans.
export const ATTR_FLAG_CARRIERS = 'dry_run.flag.carriers'
export const ATTR_FLAG_CONFLICT = 'dry_run.flag.conflict'
export const ATTR_FLAG_LOST = 'dry_run.flag.lost'
export const ATTR_GUARD_HOOKS = 'dry_run.guard.hooks'
export const ATTR_GUARD_GAPS = 'dry_run.guard.gaps'
export const ATTR_POLICY_HASH = 'dry_run.policy.hash'

// Metrics. A run id is never a label: it is unbounded.
export const METRIC_GUARD_UP = 'dry_run.guard.up'
export const METRIC_HOOK_FAILURES = 'dry_run.guard.hook_failures'
export const METRIC_EFFECTS = 'dry_run.effects'

// Carriers.
export const BAGGAGE_FLAG = 'dry_run'
export const BAGGAGE_RUN_ID = 'dry_run.run.id'
export const BAGGAGE_TOKEN = 'dry_run.token'
export const TRACESTATE_KEY = 'drytrace'
export const HEADER_FLAG = 'x-dry-run'

// OpenTelemetry names of the calls themselves.
export const ATTR_DB_SYSTEM = 'db.system.name'
export const ATTR_DB_NAMESPACE = 'db.namespace'
export const ATTR_DB_COLLECTION = 'db.collection.name'
export const ATTR_DB_OPERATION = 'db.operation.name'
export const ATTR_DB_QUERY_TEXT = 'db.query.text'
export const ATTR_DB_QUERY_SUMMARY = 'db.query.summary'
export const ATTR_HTTP_METHOD = 'http.request.method'
export const ATTR_HTTP_STATUS = 'http.response.status_code'
export const ATTR_URL_FULL = 'url.full'
export const ATTR_RPC_SYSTEM = 'rpc.system.name'
export const ATTR_RPC_METHOD = 'rpc.method'
export const ATTR_SERVER_ADDRESS = 'server.address'
export const ATTR_SERVER_PORT = 'server.port'
export const ATTR_NETWORK_PROTOCOL = 'network.protocol.name'
export const ATTR_MESSAGING_SYSTEM = 'messaging.system.name'
export const ATTR_MESSAGING_OPERATION_NAME = 'messaging.operation.name'
export const ATTR_MESSAGING_OPERATION_TYPE = 'messaging.operation.type'
export const ATTR_MESSAGING_DESTINATION = 'messaging.destination.name'
export const ATTR_ERROR_TYPE = 'error.type'
