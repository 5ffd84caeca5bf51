/** Public methods that only read: they pass, and their SQL is met as reads by the Postgres hook. */
export const READING_METHODS: ReadonlySet<string> = new Set([
  'getJobById',
  'findJobs',
  'getBlockedKeys',
  'getDependencies',
  'getDependents',
  'getQueues',
  'getQueue',
  'getQueueStats',
  'isMaintaining',
  'isBamWorking',
  'isResolvingFlow',
  'isCheckingSkew',
  'isTimekeeping',
  'getReindexCommands',
  'getWipData',
  'getSpy',
  'clearSpies',
  'isInstalled',
  'schemaVersion',
  'detectSchemaDrift',
  'getSchedules',
  'getSchedule',
  'previewSchedule',
  'previewRedrive',
  'getBamStatus',
  'getBamEntries',
  'getInstances',
  'getDb',
  // Wakes a worker of this process that polls anyway.
  'notifyWorker',
])

/** Methods whose dry form is not "simulate the call": see lifecycle.ts. */
export const LIFECYCLE_METHODS: ReadonlySet<string> = new Set(['constructor', 'start', 'stop', 'work', 'offWork'])
