import http from 'node:http'

/**
 * A local JSON server. `answer({method, url, body})` returns `{status, json}`;
 * an error it throws is answered with 500.
 */
export async function startJsonServer(answer) {
  const server = http.createServer(async (request, response) => {
    const chunks = []
    for await (const chunk of request) chunks.push(chunk)
    let result
    try {
      const text = Buffer.concat(chunks).toString('utf8')
      result = answer({
        method: request.method,
        url: new URL(request.url, 'http://localhost'),
        body: text === '' ? undefined : JSON.parse(text),
      })
    } catch (error) {
      result = { status: 500, json: { error: { message: String(error) } } }
    }
    response.writeHead(result.status, { 'content-type': 'application/json' })
    response.end(JSON.stringify(result.json))
  })
  await new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(0, '127.0.0.1', resolve)
  })
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    stop: () =>
      new Promise((resolve) => {
        server.close(resolve)
        server.closeAllConnections()
      }),
  }
}
