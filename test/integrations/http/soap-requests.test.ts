import { expect, it } from 'vitest'
import { dryHttp } from '../../support/dry-http.js'
import { startHttpWorld } from '../../support/http-world.js'

it('SOAP calls are told apart by their action: reads are sent as they are, writes are blocked', async () => {
  const world = await startHttpWorld()
  try {
    const { out, effects } = await dryHttp<(string | null)[]>(
      {
        'policy.yaml': `version: 1
rules:
  - {name: soap-reads, match: {system: http, host: 127.0.0.1, method: POST, path: /soap, soap: "Get*|List*"}, effect: read}
`,
      },
      `const envelope = (name) => '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><' + name + ' xmlns="urn:crm"/></s:Body></s:Envelope>'
       const headers = (action) => ({ 'content-type': 'text/xml; charset=utf-8', SOAPAction: '"urn:crm#' + action + '"' })
       const byFetch = async (action, name) => (await post(url + '/soap', envelope(name), headers(action))).headers['x-dry-run'] ?? null
       const byHttp = (action, name) => new Promise((resolve, reject) => {
         const request = http.request(url + '/soap', { method: 'POST' }, (response) => {
           response.resume().on('end', () => resolve(response.headers['x-dry-run'] ?? null))
         })
         for (const [key, value] of Object.entries(headers(action))) request.setHeader(key, value)
         request.on('error', reject).end(envelope(name))
       })
       const out = []
       for (const by of [byFetch, byHttp])
         out.push(await by('GetContact', 'GetContact'), await by('DeleteContact', 'DeleteContact'), await by('GetContact', 'DeleteContact'))
       return out`,
      world.env,
    )
    expect(out).toEqual([null, 'blocked', 'blocked', null, 'blocked', 'blocked'])
    const sent =
      'POST /soap <s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><GetContact xmlns="urn:crm"/></s:Body></s:Envelope>'
    expect(world.log).toEqual([sent, sent])
    expect(effects.map(({ outcome, rule }) => `${outcome} ${rule}`)).toEqual([
      'allowed soap-reads',
      'blocked default.write',
      'blocked default.write',
      'allowed soap-reads',
      'blocked default.write',
      'blocked default.write',
    ])
  } finally {
    await world.stop()
  }
})
