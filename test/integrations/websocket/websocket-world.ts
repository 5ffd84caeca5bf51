import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { WebSocketServer } from 'ws'

export interface WebSocketWorld {
  readonly port: number
  /** Messages that reached the server. */
  readonly messages: string[]
  /** Paths of HTTP requests and upgrades that reached it. */
  readonly requests: string[]
  stop(): Promise<void>
}

/** A real WebSocket server that echoes, with an event stream beside it. */
export async function startWebSocketWorld(): Promise<WebSocketWorld> {
  const messages: string[] = []
  const requests: string[] = []
  const server = createServer((request, response) => {
    requests.push(`${request.method} ${request.url}`)
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    response.write('data: hello\n\n')
  })
  const sockets = new WebSocketServer({ server, handleProtocols: (protocols) => [...protocols][0] ?? false })
  sockets.on('connection', (socket, request) => {
    requests.push(`upgrade ${request.url}`)
    socket.on('message', (data) => {
      messages.push(String(data))
      socket.send(`echo ${data}`)
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    port: (server.address() as AddressInfo).port,
    messages,
    requests,
    async stop() {
      for (const client of sockets.clients) client.terminate()
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}
