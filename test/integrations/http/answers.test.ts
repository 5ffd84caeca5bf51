import path from 'node:path'
import { expect, it } from 'vitest'
import { runNode } from '../../support/child.js'
import { readEffects } from '../../support/journal.js'
import { INDEX_URL, outputOf, scratchTree } from '../../support/scratch.js'

interface Answer {
  readonly status: number
  readonly mark: string | null
  readonly body: string
}

async function post(policy: string, calls: readonly (readonly [url: string, body: string, type?: string])[]) {
  const directory = scratchTree({ 'policy.yaml': policy })
  const journal = path.join(directory, 'journal')
  const finished = await runNode({
    register: true,
    env: { DRYTRACE_JOURNAL: journal, DRYTRACE_POLICY: path.join(directory, 'policy.yaml') },
    source: `import { dryRun } from ${JSON.stringify(INDEX_URL)}
      const out = []
      await dryRun({ id: 'answers' }, async () => {
        for (const [url, body, type = 'application/json'] of ${JSON.stringify(calls)}) {
          const response = await fetch(url, { method: 'POST', body, headers: { 'content-type': type } })
          out.push({ status: response.status, mark: response.headers.get('x-dry-run'), body: await response.text() })
        }
      })
      console.log('OUT ' + JSON.stringify(out))`,
  })
  return { answers: outputOf<Answer[]>(finished), effects: readEffects(journal) }
}

const CUSTOMER = ['https://api.stripe.com/v1/customers', 'email=a%40x.io', 'application/x-www-form-urlencoded'] as const

it('a built-in answer is marked, and its ids are on record', async () => {
  const { answers, effects } = await post('version: 1\n', [CUSTOMER])
  const { id, ...rest } = JSON.parse(answers[0]?.body ?? '') as { id: string }
  expect(id).toMatch(/^dry_/)
  expect(rest).toMatchObject({ object: 'customer', email: 'a@x.io', livemode: false })
  expect(answers[0]).toMatchObject({ status: 200, mark: 'blocked' })
  expect(effects).toMatchObject([{ fidelity: 'plausible', syntheticIds: [id] }])
})

it('a built-in answer is switched off by its id', async () => {
  const { answers, effects } = await post('version: 1\ndisable: [answer.stripe]\n', [CUSTOMER])
  expect(answers).toEqual([{ status: 200, mark: 'blocked', body: '{}' }])
  expect(effects).toMatchObject([{ fidelity: 'empty', syntheticIds: [] }])
})

it('a rule’s own answer comes before the built-in one', async () => {
  const { answers } = await post(
    'version: 1\nrules:\n  - {name: mine, match: {system: http, host: api.stripe.com}, respond: {status: 201, json: {mine: true}}}\n',
    [CUSTOMER],
  )
  expect(answers).toEqual([{ status: 201, mark: 'blocked', body: '{"mine":true}' }])
})

it('a body that the service would refuse is blocked and answered all the same', async () => {
  const { answers, effects } = await post('version: 1\n', [
    ['https://search.example/_bulk', 'not json', 'application/x-ndjson'],
    ['https://slack.com/api/chat.postMessage', '{', 'application/json'],
    ['https://api.sendgrid.com/v3/mail/send', '{"personalizations":[{"to":[null]}]}', 'application/json'],
  ])
  expect(answers.map(({ status, mark }) => [status, mark])).toEqual([
    [200, 'blocked'],
    [200, 'blocked'],
    [202, 'blocked'],
  ])
  expect(effects.map(({ outcome }) => outcome)).toEqual(['blocked', 'blocked', 'blocked'])
})

it('a bulk request has one answer per document, by position', async () => {
  const lines = [
    { index: { _index: 'a' } },
    { n: 1 },
    { delete: { _index: 'b', _id: '7' } },
    { update: { _id: '8' } },
    { doc: {} },
  ]
  const { answers } = await post('version: 1\n', [
    [
      'https://search.example/books/_bulk',
      `${lines.map((line) => JSON.stringify(line)).join('\n')}\n`,
      'application/x-ndjson',
    ],
  ])
  const { errors, items } = JSON.parse(answers[0]?.body ?? '') as { errors: boolean; items: object[] }
  expect(errors).toBe(false)
  expect(items).toMatchObject([
    { index: { _index: 'a', status: 201 } },
    { delete: { _index: 'b', _id: '7', result: 'deleted' } },
    { update: { _index: 'books', _id: '8', result: 'updated' } },
  ])
})
