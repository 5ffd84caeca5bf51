import { startJsonServer } from './json-server.mjs'

const SEED = [
  ['ct_1001', 'mira.holm@brightpath.example', 'Mira Holm'],
  ['ct_1002', 'tom.okafor@northwind.example', 'Tom Okafor'],
  ['ct_1003', 'ops@lumenfreight.example', 'Lumen Freight'],
  ['ct_1004', 'yuki.tanaka@hoshino.example', 'Yuki Tanaka'],
  ['ct_1005', 'p.delacroix@atelier-bleu.example', 'Paul Delacroix'],
  ['ct_1006', 'sandra@kestrel-dental.example', 'Sandra Whitlock'],
  ['ct_1007', 'j.brandt@brandt-soehne.example', 'Jörg Brandt'],
  ['ct_1008', 'billing@oakandpine.example', 'Oak & Pine'],
]

/** A CRM in memory. `log` holds every request that reached it, reads and writes. */
export async function startCrm() {
  const contacts = new Map(SEED.map(([id, email, name]) => [id, { id, email, name, activities: [] }]))
  const log = []
  let lastId = 2000

  function answer({ method, url, body }) {
    log.push({ method, path: url.pathname, body })
    const [, contactId, activities] = /^\/v1\/contacts(?:\/([^/]+)(\/activities)?)?$/.exec(url.pathname) ?? [null]
    if (contactId === undefined && url.pathname === '/v1/contacts') {
      if (method === 'GET') {
        const email = url.searchParams.get('email')
        return { status: 200, json: { data: [...contacts.values()].filter((contact) => contact.email === email) } }
      }
      if (method === 'POST') {
        lastId += 1
        const contact = { id: `ct_${lastId}`, ...body, activities: [] }
        contacts.set(contact.id, contact)
        return { status: 201, json: contact }
      }
    }
    const contact = contacts.get(decodeURIComponent(contactId ?? ''))
    if (!contact) return { status: 404, json: { error: { message: 'no such contact' } } }
    if (method === 'GET' && !activities) return { status: 200, json: contact }
    if (method === 'PATCH' && !activities)
      return { status: 200, json: Object.assign(contact, body, { id: contact.id }) }
    if (method === 'POST' && activities) {
      lastId += 1
      const activity = { id: `act_${lastId}`, ...body }
      contact.activities.push(activity)
      return { status: 201, json: activity }
    }
    return { status: 405, json: { error: { message: 'not supported' } } }
  }

  const server = await startJsonServer(answer)
  return { ...server, log, contacts, writes: () => log.filter((entry) => entry.method !== 'GET') }
}
