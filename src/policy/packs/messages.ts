import type { PolicyRule } from '../schema.js'

function send(name: string, host: string, path: string, method = 'POST'): PolicyRule {
  return {
    name: `send.${name}`,
    match: { system: 'http', host, method, path },
    effect: 'write',
    action: 'send',
    reason: 'reaches people',
  }
}

/** Mail, chat and push APIs: what reaches people is called `send`. Reads of the same APIs pass. */
export const messageRules: readonly PolicyRule[] = [
  send('ses', 'email.*.amazonaws.com|email-fips.*.amazonaws.com', '/v2/email/outbound-*'),
  send('sendgrid', 'api.sendgrid.com|api.eu.sendgrid.com', '/v3/mail/send'),
  send('postmark', 'api.postmarkapp.com', '/email|/email/**'),
  send('resend', 'api.resend.com', '/emails|/emails/batch'),
  send('mailgun', 'api.mailgun.net|api.eu.mailgun.net', '/v3/*/messages|/v3/*/messages.mime'),
  send(
    'twilio',
    'api.twilio.com|api.*.twilio.com|api.*.*.twilio.com',
    '/2010-04-01/Accounts/*/Messages.json|/2010-04-01/Accounts/*/Calls.json',
  ),
  send(
    'slack',
    'slack.com|*.slack.com',
    '/api/chat.postMessage|/api/chat.postEphemeral|/api/chat.scheduleMessage|/api/chat.update',
  ),
  send('slack-webhook', 'hooks.slack.com', '/**', 'GET|POST'),
  send('telegram', 'api.telegram.org', '/bot*/send*|/bot*/edit*|/bot*/forward*|/bot*/copy*', 'GET|POST'),
  {
    name: 'telegram.read',
    match: {
      system: 'http',
      host: 'api.telegram.org',
      method: 'GET|POST',
      path: '/bot*/getMe|/bot*/getChat*|/bot*/getFile',
    },
    effect: 'read',
    reason: 'reads by its name',
  },
  {
    name: 'telegram.write',
    match: { system: 'http', host: 'api.telegram.org', method: 'GET|POST', path: '/bot*/*' },
    effect: 'write',
    action: 'execute',
    reason: 'this API writes by GET too; getUpdates confirms what it skips',
  },
  send(
    'discord',
    'discord.com|*.discord.com|discordapp.com',
    '/api/webhooks/**|/api/*/webhooks/**|/api/*/channels/*/messages',
  ),
  send('fcm', 'fcm.googleapis.com', '/v1/projects/*/messages:send'),
  send('expo-push', 'exp.host', '/--/api/v2/push/send'),
  send('vonage', 'rest.nexmo.com', '/sms/*', 'GET|POST'),
  {
    name: 'slack.read',
    match: {
      system: 'http',
      host: 'slack.com|*.slack.com',
      method: 'POST',
      path: [
        'api.test',
        'auth.test',
        '*.list',
        '*.info',
        '*.history',
        '*.replies',
        '*.members',
        '*.get',
        'users.lookupByEmail',
        'search.*',
      ]
        .map((method) => `/api/${method}`)
        .join('|'),
    },
    effect: 'read',
    reason: 'every Slack method travels as POST',
  },
]
