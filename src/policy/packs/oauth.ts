import type { PolicyRule } from '../schema.js'

function token(name: string, host: string, path: string): PolicyRule {
  return {
    name,
    match: { system: 'http', host, method: 'POST', path },
    effect: 'read',
    reason: 'a token is needed by the reads that follow',
  }
}

/** Token endpoints are POSTs without which no later read works. */
export const oauthRules: readonly PolicyRule[] = [
  token('oauth.google', 'oauth2.googleapis.com', '/token'),
  token('oauth.microsoft', 'login.microsoftonline.com', '/**/token'),
  token('oauth.aws-sts', 'sts.*.amazonaws.com|sts.amazonaws.com', '/'),
]
