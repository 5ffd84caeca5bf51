const REPLY_PREFIX = /^\s*((re|fw|fwd|aw|wg|sv|tr)\s*(\[\d+\])?\s*:\s*)+/i
const QUOTE_START =
  /^\s*(>|-{2,}\s*(original message|forwarded message|ursprüngliche nachricht)|on .{5,120} wrote:\s*$|am .{5,120} schrieb .*:\s*$|_{10,}\s*$)/i
const SIGNATURE_START = /^(--\s*|sent from my .*|__\s*)$/i

/** `Mira Holm <mira@x.example>` or a bare address; null when there is no usable address. */
export function parseSender(from) {
  const match = /<([^<>\s]+@[^<>\s]+)>/.exec(from) ?? /([^\s<>"',;]+@[^\s<>"',;]+\.[^\s<>"',;]+)/.exec(from)
  if (!match) return null
  const email = match[1].toLowerCase()
  const name = from.slice(0, match.index).replace(/["<]/g, '').trim()
  return { email, name: name || email.split('@')[0] }
}

/** The subject without reply prefixes, ticket tags and case, to recognise the same conversation. */
export function subjectKey(subject) {
  return subject
    .replace(REPLY_PREFIX, '')
    .replace(/\[#\d+\]/g, '')
    .replace(/\s+/g, ' ')
    .trim()
    .toLowerCase()
    .slice(0, 200)
}

/** Without NULs, which Postgres refuses, and without invisible direction marks. */
export function visible(text) {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what has to go
  return text.replace(/[\u0000-\u0008\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]/g, '').trim()
}

/** Plain text of the mail; HTML is flattened when there is nothing else. */
export function plainText({ text, html }) {
  const source = text.trim() === '' && html !== '' ? flattenHtml(html) : text
  return visible(source.replace(/\r\n?/g, '\n'))
}

/** What the sender wrote this time: no quoted chain, no signature block. */
export function newestPart(text) {
  const lines = []
  for (const line of text.split('\n')) {
    if (QUOTE_START.test(line) || SIGNATURE_START.test(line)) break
    lines.push(line)
  }
  return lines.join('\n').trim()
}

function flattenHtml(html) {
  return html
    .replace(/<(style|script|head)[\s\S]*?<\/\1>/gi, ' ')
    .replace(/<!--[\s\S]*?-->/g, ' ')
    .replace(/<\/?(p|div|br|tr|li|h\d)\b[^>]*>/gi, '\n')
    .replace(/<[^>]+>/g, ' ')
    .replace(/&nbsp;/g, ' ')
    .replace(/&lt;/g, '<')
    .replace(/&gt;/g, '>')
    .replace(/&quot;/g, '"')
    .replace(/&#39;/g, "'")
    .replace(/&amp;/g, '&')
    .replace(/[ \t]+/g, ' ')
    .replace(/\n\s*\n+/g, '\n\n')
}
