import http from 'node:http'
import https from 'node:https'

/** A small JSON client for the CRM. Anything but 2xx is an error, except 404 on a read, which is null. */
export function createCrm(baseUrl, token) {
  const transport = baseUrl.startsWith('https:') ? https : http
  const agent = new transport.Agent({ keepAlive: true })

  function call(method, path, body) {
    const payload = body === undefined ? undefined : Buffer.from(JSON.stringify(body))
    return new Promise((resolve, reject) => {
      const request = transport.request(
        new URL(path, baseUrl),
        {
          method,
          agent,
          timeout: 10_000,
          headers: {
            accept: 'application/json',
            ...(token && { authorization: `Bearer ${token}` }),
            ...(payload && { 'content-type': 'application/json', 'content-length': payload.length }),
          },
        },
        (response) => {
          const chunks = []
          response.on('data', (chunk) => chunks.push(chunk))
          response.on('error', reject)
          response.on('end', () => {
            const text = Buffer.concat(chunks).toString('utf8')
            if (response.statusCode === 404 && method === 'GET') return resolve(null)
            if (response.statusCode < 200 || response.statusCode > 299) {
              return reject(new Error(`CRM ${method} ${path} answered ${response.statusCode}: ${text.slice(0, 200)}`))
            }
            try {
              resolve(text === '' ? null : JSON.parse(text))
            } catch (error) {
              reject(new Error(`CRM ${method} ${path} answered something that is not JSON`, { cause: error }))
            }
          })
        },
      )
      request.on('timeout', () => request.destroy(new Error(`CRM ${method} ${path} timed out`)))
      request.on('error', reject)
      request.end(payload)
    })
  }

  return {
    async findContact(email) {
      const found = await call('GET', `/v1/contacts?email=${encodeURIComponent(email)}`)
      return found?.data?.[0] ?? null
    },
    createContact: (contact) => call('POST', '/v1/contacts', contact),
    updateContact: (id, changes) => call('PATCH', `/v1/contacts/${encodeURIComponent(id)}`, changes),
    logActivity: (id, activity) => call('POST', `/v1/contacts/${encodeURIComponent(id)}/activities`, activity),
    close: () => agent.destroy(),
  }
}
