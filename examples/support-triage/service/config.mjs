/** Settings come from the environment; a missing one stops the service at start, by name. */
export function readConfig(env = process.env) {
  const required = (name) => {
    const value = env[name]
    if (!value) throw new Error(`${name} is not set`)
    return value
  }
  return {
    databaseUrl: required('DATABASE_URL'),
    smtpUrl: required('SMTP_URL'),
    crmUrl: required('CRM_URL'),
    crmToken: env.CRM_TOKEN ?? '',
    llmUrl: env.OPENAI_BASE_URL ?? 'https://api.openai.com/v1',
    llmKey: env.OPENAI_API_KEY ?? '',
    llmModel: env.OPENAI_MODEL ?? 'gpt-4o-mini',
    supportAddress: env.SUPPORT_ADDRESS ?? 'Support <support@tidewater.example>',
    followUpSeconds: Number(env.FOLLOW_UP_SECONDS ?? 3600),
    host: env.HOST ?? '127.0.0.1',
    port: Number(env.PORT ?? 3000),
    logLevel: env.LOG_LEVEL ?? 'info',
  }
}
