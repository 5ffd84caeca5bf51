import { readFileSync } from 'node:fs'
import path from 'node:path'
import { Ajv2020 } from 'ajv/dist/2020.js'
import addFormats from 'ajv-formats'
import { describe, expect, it } from 'vitest'
import type * as Drytrace from '../../src/index.js'
import { bodyOf } from '../../src/policy/http/request-facts.js'
import type { OpenApiAnswers } from '../../src/policy/http/respond.js'
import { runNode } from '../support/child.js'
import { INDEX_URL, scratchTree } from '../support/scratch.js'

const { loadPolicy } = (await import(/* @vite-ignore */ INDEX_URL)) as typeof Drytrace
const FIXTURES = path.join(import.meta.dirname, 'fixtures')

function answersOf(document: string | object): OpenApiAnswers {
  const directory = scratchTree({
    'policy.yaml':
      'version: 1\nrules:\n  - {name: crm, match: {system: http, host: crm.example}, respond: {openapi: crm.openapi.yaml}}\n',
    'crm.openapi.yaml': document,
  })
  const ruling = loadPolicy(path.join(directory, 'policy.yaml')).decide({
    system: 'http',
    kind: 'write',
    match: { host: 'crm.example', method: 'POST', path: '/' },
  })
  const answers = ruling.respond?.document
  if (answers === undefined) throw new Error('no OpenAPI document')
  return answers
}

function ask(answers: OpenApiAnswers, call: string, body: unknown = undefined, type = 'application/json') {
  const [method = '', target = ''] = call.split(' ')
  let made = 0
  const ids = {
    string: () => `dry_aaaaaa_${++made}`,
    uuid: () => `d27ace00-0000-4000-8000-${String(++made).padStart(12, '0')}`,
    integer: () => String(2_000_000_000 + ++made),
  }
  const text = body === undefined ? '' : typeof body === 'string' ? body : JSON.stringify(body)
  return answers.answer({ method, path: target, body: bodyOf(text, type) }, ids)
}

function answered(answers: OpenApiAnswers, call: string, body?: unknown) {
  const answer = ask(answers, call, body)
  if ('none' in answer) throw new Error(answer.none)
  return {
    ...answer,
    json: answer.body === undefined ? undefined : (JSON.parse(answer.body) as Record<string, unknown>),
  }
}

describe('an answer by an OpenAPI 3.0 document', () => {
  const crm = answersOf(readFileSync(path.join(FIXTURES, 'crm-3.0.openapi.yaml'), 'utf8'))

  it('is the success of the operation, 201 before 200 for a POST, with what the request brought and made-up ids', () => {
    const { status, headers, json, note } = answered(crm, 'POST /api/v2/contacts', {
      name: 'Ada',
      age: 3,
      code: 'ABC-1234',
      password: 'secret',
      id: 'mine',
      unknown: true,
      address: { city: 'Kyiv' },
    })
    expect({ status, note, location: headers['location'], type: headers['content-type'] }).toEqual({
      status: 201,
      note: undefined,
      location: '/contacts/1',
      type: 'application/json',
    })
    expect(json).toMatchObject({
      id: expect.stringMatching(/^dry_/),
      accountId: expect.any(Number),
      ref: expect.stringMatching(/^d27ace/),
      name: 'Ada',
      code: 'ABC-1234',
      address: { city: 'Kyiv' },
    })
    expect(json?.['accountId']).toBeGreaterThan(2_000_000_000)
    // 3 is too young: the field keeps what the schema allows.
    expect(json?.['age']).toBeGreaterThanOrEqual(18)
    expect(json).not.toHaveProperty('password')
    expect(json).not.toHaveProperty('unknown')
    expect(Math.abs(Date.parse(String(json?.['createdAt'])) - Date.now())).toBeLessThan(60_000)
  })

  it.each([
    ['a POST', 'POST /api/v1/contacts', { name: 'Ada' }],
    ['a POST without a body', 'POST /api/v1/contacts', undefined],
    ['a POST of a list', 'POST /api/v1/contacts', []],
    [
      'a PATCH',
      'PATCH /api/v1/contacts/ct_7',
      { name: null, age: 'x', code: 'abc', address: { city: 7 }, parent: null },
    ],
    ['deep and wide', 'POST /api/v1/contacts', { related: [{ id: 'x' }, {}], address: null, tags: ['a', 1] }],
  ])('is valid for %s', (_, call, body) => {
    const contact = {
      type: 'object',
      required: ['id', 'name', 'parent'],
      additionalProperties: false,
      properties: {
        id: { type: 'string' },
        accountId: { type: 'integer' },
        ref: { type: 'string', format: 'uuid' },
        name: { type: 'string', minLength: 3 },
        code: { type: 'string', pattern: '^[A-Z]{3}-\\d{4}$' },
        age: { type: 'integer', minimum: 18, exclusiveMaximum: 100 },
        parent: { type: ['object', 'null'], required: ['id'], properties: { id: { type: 'integer' } } },
        related: { type: 'array', minItems: 1, items: { $ref: '#' } },
        address: { type: 'object', required: ['city'], properties: { city: { type: 'string' } } },
        tags: { type: 'array', uniqueItems: true, items: { enum: ['a', 'b'] } },
        createdAt: { type: 'string', format: 'date-time' },
      },
    }
    const { json, note } = answered(crm, call, body)
    const validate = validator(contact)
    expect([validate(json), validate.errors]).toEqual([true, null])
    expect(note).toBeUndefined()
  })

  it('names a thing by the id of its path, and keeps ids that are the caller’s to choose', () => {
    expect(answered(crm, 'PATCH /api/v1/contacts/ct%207', { name: 'Bob' }).json).toMatchObject({
      id: 'ct 7',
      name: 'Bob',
    })
    const note = answered(crm, 'POST /api/v1/contacts/ct_7/notes', { text: 'hi' }).json
    expect(note).toMatchObject({ contactId: 'ct_7', text: 'hi', id: expect.stringMatching(/^dry_/) })
  })

  it('is the example of the document where there is one, with its ids replaced', () => {
    expect(answered(crm, 'POST /api/v1/orders', { items: [{ sku: 'a', id: 9 }, { sku: 'b' }] }).json).toEqual({
      id: expect.any(Number),
      status: 'accepted',
      items: [
        { id: expect.any(Number), sku: 'a', price: 12 },
        { id: expect.any(Number), sku: 'b', price: 12 },
      ],
    })
    const { items } = answered(crm, 'POST /api/v1/orders', { items: [{ id: 9 }, { id: 9 }] }).json as {
      items: { id: number }[]
    }
    expect(items.map(({ id }) => id > 2_000_000_000)).toEqual([true, true])
    expect(items[0]?.id).not.toBe(items[1]?.id)
  })

  it('goes by the path that is written out, by ranges and by default', () => {
    expect(answered(crm, 'POST /api/v1/contacts/merge').json).toEqual({ merged: true })
    expect(answered(crm, 'DELETE /api/v1/contacts/ct_7')).toEqual({ status: 204, headers: {} })
    expect(answered(crm, 'PUT /api/v1/contacts/ct_7')).toMatchObject({ status: 200, body: '"ok"' })
    expect(answered(crm, 'POST /internal/jobs')).toMatchObject({ status: 200, json: { queued: true } })
  })

  it.each([
    ['POST /contacts', 'the OpenAPI document has no operation POST /contacts: answered by default'],
    ['POST /api/v1/contacts/', 'the OpenAPI document has no operation POST /api/v1/contacts/: answered by default'],
    ['PUT /api/v1/contacts', 'the OpenAPI document has no operation PUT /api/v1/contacts: answered by default'],
    ['PUT /api/v1/orders', 'the OpenAPI document declares no success of PUT /orders: answered by default'],
    [
      'POST /api/v1/photos',
      'the OpenAPI document answers POST /photos with image/png and has no example: answered by default',
    ],
  ])('has none for %s, and says why', (call, none) => {
    expect(ask(crm, call)).toEqual({ none })
  })
})

describe('an answer by an OpenAPI 3.1 document', () => {
  const text = readFileSync(path.join(FIXTURES, 'desk-3.1.openapi.json'), 'utf8')
  const document = JSON.parse(text) as { $id?: string }
  const desk = answersOf(text)

  it.each([
    [
      'POST /tickets',
      'Ticket',
      { subject: 'Help', priority: null, labels: ['x'], requester: { kind: 'guest', email: 'a@b.io' } },
    ],
    ['POST /tickets', 'Ticket', { subject: '', priority: 99, requester: { kind: 'nobody' } }],
    ['PUT /tickets/41', 'Ticket', { subject: 'Again' }],
    ['POST /trees', 'Tree', { left: { value: 1 } }],
  ])('is valid: %s', (call, name, body) => {
    const ajv = ajvWithFormats()
    ajv.addSchema(document, 'desk')
    const validate = ajv.compile({ $ref: `desk#/components/schemas/${name}` })
    const { json, note } = answered(desk, call, body)
    expect([validate(json), validate.errors]).toEqual([true, null])
    expect(note).toBeUndefined()
  })

  it('echoes what fits its schema', () => {
    const requester = { kind: 'guest', email: 'a@b.io' }
    expect(answered(desk, 'POST /tickets', { subject: 'Help', priority: null, requester }).json).toMatchObject({
      id: expect.any(Number),
      subject: 'Help',
      priority: null,
      requester,
      state: 'new',
    })
    expect(answered(desk, 'PUT /tickets/41', {}).json).toMatchObject({ id: 41 })
  })

  it('says so when its example cannot be made valid', () => {
    const { note } = answered(desk, 'POST /impossible')
    expect(note).toMatch(/^the answer does not match its OpenAPI schema: /)
  })
})

function ajvWithFormats(): Ajv2020 {
  const ajv = new Ajv2020({ strict: false })
  addFormats.default(ajv)
  return ajv
}

function validator(schema: object) {
  return ajvWithFormats().compile(schema)
}

describe('an OpenAPI document that is wrong is refused at load, with file, line and rule', () => {
  const head = 'openapi: 3.0.3\ninfo: {title: t, version: "1"}\n'
  it.each([
    ['no YAML', 'openapi: [\n', /^crm\.yaml:2: rule "r": not valid YAML: /],
    ['another document', 'a: 1\n', 'crm.yaml:1: rule "r": openapi: OpenAPI 3.0 or 3.1 is needed, no version is named'],
    ['a list', '- 1\n', 'crm.yaml:1: rule "r": not an OpenAPI document'],
    [
      'Swagger',
      'info: {}\nswagger: "2.0"\n',
      'crm.yaml:1: rule "r": openapi: OpenAPI 3.0 or 3.1 is needed, it is "2.0"',
    ],
    ['no paths', head, 'crm.yaml:1: rule "r": must have required property \'paths\''],
    [
      'an operation without responses',
      `${head}paths:\n  /contacts:\n    get:\n      summary: x\n`,
      'crm.yaml:6: rule "r": paths./contacts.get: must have required property \'responses\'',
    ],
    [
      'an unknown field',
      `${head}paths:\n  /contacts:\n    get:\n      responses:\n        200:\n          description: x\n          contents: {}\n`,
      'crm.yaml:9: rule "r": paths./contacts.get.responses.200.contents: unknown field',
    ],
    [
      'a reference that leads nowhere',
      `${head}paths:\n  /contacts:\n    get:\n      responses:\n        200: {$ref: '#/components/responses/Nope'}\n`,
      'crm.yaml:7: rule "r": paths./contacts.get.responses.200.$ref: #/components/responses/Nope leads nowhere',
    ],
    [
      'a reference to another file',
      `${head}paths:\n  /contacts:\n    $ref: other.yaml#/a\n`,
      'crm.yaml:5: rule "r": paths./contacts.$ref: other.yaml#/a is outside of this document: bundle it into one file',
    ],
    [
      'a wrong 3.1',
      'openapi: 3.1.0\ninfo: {title: t, version: "1"}\npaths:\n  contacts: {}\n',
      'crm.yaml:4: rule "r": paths.contacts: unknown field',
    ],
  ])('%s', (_, document, expected) => {
    const directory = scratchTree({
      'policy.yaml':
        'version: 1\nrules:\n  - {name: r, match: {system: http, host: x}, respond: {openapi: crm.yaml}}\n',
      'crm.yaml': document,
    })
    let message = 'it was accepted'
    try {
      loadPolicy(path.join(directory, 'policy.yaml'))
    } catch (error) {
      message = (error as Error).message.replaceAll(`${directory}/`, '')
    }
    if (typeof expected === 'string') expect(message.split('\n')[0]).toBe(expected)
    else expect(message).toMatch(expected)
  })
})

it('a policy without such a rule loads none of the libraries', async () => {
  const directory = scratchTree({
    'policy.yaml': 'version: 1\nrules:\n  - {name: r, match: {system: http, host: x}, respond: {json: {}}}\n',
  })
  const { stdout } = await runNode({
    register: true,
    env: { DRYTRACE_POLICY: path.join(directory, 'policy.yaml') },
    source: `import { createRequire } from 'node:module'
      const loaded = Object.keys(createRequire(import.meta.url).cache).filter((file) => /ajv|openapi|saxes/.test(file))
      console.log(JSON.stringify(loaded))`,
  })
  expect(JSON.parse(stdout)).toEqual([])
})
