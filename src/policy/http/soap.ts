import { createRequire } from 'node:module'
import type { SaxesParser } from 'saxes'
import type { RequestBody, RequestFacts } from './request-facts.js'

const ENVELOPES: ReadonlySet<string> = new Set([
  'http://schemas.xmlsoap.org/soap/envelope/',
  'http://www.w3.org/2003/05/soap-envelope',
])

/** What an envelope asks for: the elements of its Body, and the Action of its WS-Addressing header. */
export interface SoapEnvelope {
  readonly operations: readonly string[]
  readonly actions: readonly string[]
}

/** What headers say: SOAPAction (1.1), the `action` of application/soap+xml (1.2). Several when there are several. */
export function soapHeaderActions({ headers }: RequestFacts): string[] {
  const header = (headers['soapaction'] ?? '').match(/"[^"]*"|[^",\s][^",]*/g) ?? []
  const type = headers['content-type'] ?? ''
  const parameters = /^application\/soap\+xml\b/i.test(type)
    ? [...type.matchAll(/;\s*action\s*=\s*("[^"]*"|[^\s;"]+)/gi)].map(([, value = '']) => value)
    : []
  // An empty SOAPAction says that the operation stands in the URL or in the body.
  return [...header, ...parameters].map((value) => value.replaceAll('"', '').trim()).filter((value) => value !== '')
}

/** True when a request says that it is SOAP, whatever its body is. */
export function claimsSoap({ headers, body }: RequestFacts): boolean {
  return (
    headers['soapaction'] !== undefined ||
    /^(application\/soap\+xml|text\/xml)\b|\bxop\+xml\b/i.test(headers['content-type'] ?? body?.contentType ?? '')
  )
}

/** An action and its last part: `http://crm.example/IContacts/Get` is called `Get` too. */
export function soapNames(action: string): string[] {
  const last = action.slice(Math.max(action.lastIndexOf('/'), action.lastIndexOf('#'), action.lastIndexOf(':')) + 1)
  return last === '' || last === action ? [action] : [action, last]
}

const read = new WeakMap<RequestBody, SoapEnvelope | 'other' | 'unreadable'>()

/**
 * The envelope of a body; `other` for XML of another kind and for what is no
 * XML by its look, `unreadable` for XML that is malformed or declares entities.
 */
export function soapEnvelope(body: RequestBody): SoapEnvelope | 'other' | 'unreadable' {
  const known = read.get(body)
  if (known !== undefined) return known
  const envelope = parse(body.text.replace(/^\uFEFF/, ''))
  read.set(body, envelope)
  return envelope
}

function parse(text: string): SoapEnvelope | 'other' | 'unreadable' {
  if (!text.trimStart().startsWith('<')) return 'other'
  const Parser = loadParser()
  if (Parser === undefined) return 'unreadable'
  const operations: string[] = []
  const actions: string[] = []
  let depth = 0
  let soap = ''
  let part = ''
  let action: string | undefined
  const parser = new Parser({ xmlns: true })
  // Entities are how one text is two documents to two parsers.
  parser.on('doctype', () => {
    throw new Error('a document type')
  })
  parser.on('opentag', ({ uri, local }) => {
    depth += 1
    if (depth === 1 && local === 'Envelope' && ENVELOPES.has(uri)) soap = uri
    else if (depth === 2) part = uri === soap && soap !== '' ? local : ''
    else if (depth === 3 && part === 'Body') operations.push(local)
    else if (depth === 3 && part === 'Header' && local === 'Action' && uri.includes('/addressing')) action = ''
  })
  const add = (characters: string) => {
    if (action !== undefined) action += characters
  }
  parser.on('text', add)
  parser.on('cdata', add)
  parser.on('closetag', () => {
    if (depth === 3 && action !== undefined) {
      actions.push(action.trim())
      action = undefined
    }
    depth -= 1
  })
  try {
    parser.write(text).close()
  } catch {
    return 'unreadable'
  }
  return soap === '' ? 'other' : { operations, actions }
}

let loaded: { Parser: typeof SaxesParser | undefined } | undefined

/** Loaded with the first SOAP request of a dry run: a service without any does not pay for it. */
function loadParser(): typeof SaxesParser | undefined {
  if (loaded === undefined) {
    try {
      loaded = { Parser: (createRequire(import.meta.url)('saxes') as { SaxesParser: typeof SaxesParser }).SaxesParser }
    } catch {
      loaded = { Parser: undefined }
    }
  }
  return loaded.Parser
}
