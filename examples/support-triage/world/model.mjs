import { createHash } from 'node:crypto'
import { startJsonServer } from './json-server.mjs'

/**
 * A stand-in for an OpenAI-compatible model server: same request, same
 * response document, but a handful of rules instead of a model, so that the
 * demo runs anywhere and answers the same every time. Like a real model it is
 * gullible: it reports whatever account change the text asks for.
 */
export async function startModel() {
  const requests = []
  const server = await startJsonServer(({ method, url, body }) => {
    if (method !== 'POST' || url.pathname !== '/v1/chat/completions') {
      return {
        status: 404,
        json: { error: { message: `no route ${method} ${url.pathname}`, type: 'invalid_request_error' } },
      }
    }
    const prompt = body.messages.findLast((message) => message.role === 'user')?.content ?? ''
    const content = JSON.stringify(triage(prompt))
    requests.push({ model: body.model, prompt })
    return { status: 200, json: completion(body, content) }
  })
  return { ...server, baseUrl: `${server.url}/v1`, requests }
}

function completion(request, content) {
  const promptTokens = tokens(request.messages.map((message) => message.content).join(' '))
  const completionTokens = tokens(content)
  return {
    id: `chatcmpl-${createHash('sha256').update(content).digest('hex').slice(0, 24)}`,
    object: 'chat.completion',
    created: Math.floor(Date.now() / 1000),
    model: request.model,
    choices: [
      { index: 0, message: { role: 'assistant', content, refusal: null }, logprobs: null, finish_reason: 'stop' },
    ],
    usage: {
      prompt_tokens: promptTokens,
      completion_tokens: completionTokens,
      total_tokens: promptTokens + completionTokens,
    },
  }
}

const tokens = (text) => Math.ceil(text.length / 4)

const TOPICS = [
  ['cancellation', 'Cancellation', /\b(cancel|terminate|close my account|kündig|résilier)/i],
  ['billing', 'Invoice', /\b(invoice|charged|refund|billing|payment|rechnung|facture)\b|請求/i],
  [
    'technical',
    'Malfunction',
    /\b(down|outage|errors?|crash\w*|broken|cannot log ?in|can'?t log ?in|cant log ?in|not working|sync|timeout|exception)\b/i,
  ],
  ['account', 'Account change', /\b(phone|address|upgrade|downgrade|tier|plan|moved|profile|login name)\b|住所/i],
  ['feedback', 'Feedback', /\b(love|great work|suggestion|feature request|thank you so much)\b/i],
]

function triage(prompt) {
  const [, from = '', subject = '', body = ''] = /From: (.*)\nSubject: (.*)\n\n([\s\S]*)\n<\/mail>/.exec(prompt) ?? []
  const text = `${subject === '(none)' ? '' : subject}\n${body === '(empty)' ? '' : body}`
  const topics = TOPICS.filter(([, , pattern]) => pattern.test(text))
  const urgency = urgencyOf(text)
  const customerChanges = changesIn(text)
  const conflicting = /\b(actually no|on second thought|forget that|disregard (what|that)|ignore my last)\b/i.test(text)
  const name = from.split(/[\s<@]/)[0] || 'there'
  return {
    category: topics[0]?.[0] ?? 'other',
    urgency,
    sentiment: sentimentOf(text),
    summary: opening(text) || 'Empty mail.',
    issues: topics.map(([, title, pattern]) => ({ title, detail: sentenceWith(text, pattern) })),
    customerChanges,
    conflicting,
    reply: replyFor(name, topics, urgency, customerChanges, conflicting),
  }
}

function urgencyOf(text) {
  if (/\b(outage|production is down|down since|completely down|losing money|immediately|emergency)\b/i.test(text))
    return 'urgent'
  if (/\b(urgent|asap|today|deadline|cannot log ?in|can'?t log ?in)\b/i.test(text)) return 'high'
  return /\b(no rush|whenever|suggestion|at your convenience)\b/i.test(text) ? 'low' : 'normal'
}

function sentimentOf(text) {
  const letters = text.replace(/[^\p{L}]/gu, '')
  const capitals = text.replace(/[^\p{Lu}]/gu, '')
  if (letters.length > 30 && capitals.length / letters.length > 0.7) return 'angry'
  if (/\b(unacceptable|ridiculous|lawyer|furious)\b|!!!/i.test(text)) return 'angry'
  if (/\b(disappointed|broken|annoy|problem|wrong|sorry but)\b/i.test(text)) return 'negative'
  return /\b(thank|love|great|happy)\b/i.test(text) ? 'positive' : 'neutral'
}

function changesIn(text) {
  const phone = /(?:phone|number|tel\.?|call me (?:at|on))[^+\d\n]{0,40}(\+?\d[\d ()-]{7,18}\d)/i.exec(text)?.[1]
  const address = (/(?:new address(?: is)?|moved to)[:\s]*([^\n.]{8,120})/i.exec(text) ??
    /住所は\s*([^\n。]{4,120}?)に変/.exec(text))?.[1]
  const tier = /(?:upgrade|downgrade|switch|set|move)\b[^.\n]{0,60}\b(free|standard|premium|enterprise)\b/i.exec(
    text,
  )?.[1]
  return {
    ...(phone && { phone: phone.trim() }),
    ...(address && { address: address.trim() }),
    ...(tier && { tier: tier.toLowerCase() }),
  }
}

function opening(text) {
  return text.replace(/\s+/g, ' ').trim().slice(0, 160)
}

function sentenceWith(text, pattern) {
  const sentence = text.split(/(?<=[.!?。])\s+|\n+/).find((candidate) => pattern.test(candidate)) ?? ''
  return sentence.replace(/\s+/g, ' ').trim().slice(0, 300)
}

function replyFor(name, topics, urgency, changes, conflicting) {
  const lines = [`Hello ${name},`, '']
  if (conflicting) lines.push('your message asks for two different things. Which of them shall we do?')
  else if (topics.length > 1)
    lines.push(`thank you for writing. We opened one ticket for your ${topics.length} points.`)
  else lines.push('thank you for writing. We opened a ticket for this.')
  for (const [, title] of topics) lines.push(`- ${title}`)
  if (!conflicting && Object.keys(changes).length > 0) lines.push('', `We updated: ${Object.keys(changes).join(', ')}.`)
  if (urgency === 'urgent' || urgency === 'high') lines.push('', 'An engineer is looking at it now.')
  lines.push('', 'Tidewater Support')
  return lines.join('\n')
}
