import { INDEX_URL } from '../../support/scratch.js'

/**
 * What every service below does. Routes: `/places` writes from wherever a handler can, `/parsed` after the
 * framework has read the body, `/stream` between the parts of its answer, `/error` in the error handler.
 * A write is a POST to PEER; its path is the request's `x-tag` and the place.
 */
const COMMON = `
import http from 'node:http'
import { Readable } from 'node:stream'
import { setImmediate as tick } from 'node:timers/promises'
import { isDryRun } from ${JSON.stringify(INDEX_URL)}

const agent = new http.Agent({ keepAlive: true, maxSockets: 4 })
const byHttp = (url) => new Promise((resolve, reject) => {
  http.request(url, { method: 'POST', agent }, (response) => response.resume().on('end', resolve)).on('error', reject).end('{}')
})
const byFetch = async (url) => (await fetch(url, { method: 'POST', body: '{}' })).arrayBuffer()
let writes = 0
// Both clients pool their connections, and so meet the context of whoever opened one.
const write = ({ headers }, place) =>
  ((writes += 1) % 2 === 0 ? byHttp : byFetch)(process.env.PEER + '/' + headers['x-tag'] + '/' + place)
    .catch((error) => console.error(error.code, error.message, error.cause))
const middleware = (request) => void write(request, 'middleware')
// Resolves when the body has been read.
const places = async (request, incoming, outgoing) => {
  write(request, 'handler')
  let size = 0
  incoming.on('data', (chunk) => {
    const before = size
    size += chunk.length
    if (before < 100_000 && size >= 100_000) write(request, 'data')
  })
  if (incoming !== outgoing) outgoing.on('finish', () => write(request, 'finish'))
  outgoing.on('close', () => write(request, 'close'))
  setTimeout(() => write(request, 'timer'), 5)
  await new Promise((resolve) => incoming.on('end', () => { write(request, 'end'); resolve() }))
  await write(request, 'await')
  return { dry: isDryRun() }
}
const parsed = async (request, body) => {
  await write(request, 'parsed')
  return { dry: isDryRun(), size: body.filler.length }
}
// More than the buffers hold: it is read on from 'drain'.
async function* parts(request) {
  for (let index = 0; index < 8; index += 1) {
    if (index === 6) write(request, 'stream')
    await tick()
    yield Buffer.alloc(70_000, 97)
  }
  write(request, 'stream-end')
}
const fail = async () => { await tick(); throw new Error('as asked') }
const failed = (request) => { write(request, 'error'); return { dry: isDryRun() } }
const listening = (server) => console.log('LISTENING ' + server.address().port)
const readJson = async (stream) => {
  let text = ''
  for await (const chunk of stream) text += chunk
  return JSON.parse(text)
}
`

const EXPRESS = `
import express from 'express'
const app = express()
app.use((request, response, next) => { middleware(request); next() })
app.post('/places', async (request, response) => response.json(await places(request, request, response)))
app.post('/parsed', express.json({ limit: '1mb' }), async (request, response) => response.json(await parsed(request, request.body)))
app.post('/stream', (request, response) => Readable.from(parts(request)).pipe(response))
app.post('/error', fail)
app.use((error, request, response, next) => response.status(500).json(failed(request)))
const server = app.listen(0, '127.0.0.1', () => listening(server))
`

const KOA = `
import http2 from 'node:http2'
import Koa from 'koa'
const app = new Koa()
app.silent = true
app.use(async (ctx, next) => {
  middleware(ctx)
  try { await next() } catch { ctx.status = 500; ctx.body = failed(ctx) }
})
app.use(async (ctx) => {
  if (ctx.path === '/places') ctx.body = await places(ctx, ctx.req, ctx.res)
  if (ctx.path === '/parsed') ctx.body = await parsed(ctx, await readJson(ctx.req))
  if (ctx.path === '/stream') ctx.body = Readable.from(parts(ctx))
  if (ctx.path === '/error') await fail()
})
const server = (process.env.PROTOCOL === 'http2' ? http2 : http).createServer(app.callback())
server.listen(0, '127.0.0.1', () => listening(server))
`

const HONO = `
import { serve } from '@hono/node-server'
import { Hono } from 'hono'
import { stream } from 'hono/streaming'
const app = new Hono()
const requestOf = (c) => ({ headers: { 'x-tag': c.req.header('x-tag') } })
app.use(async (c, next) => { middleware(requestOf(c)); await next() })
app.post('/places', async (c) => c.json(await places(requestOf(c), c.env.incoming, c.env.outgoing)))
app.post('/parsed', async (c) => c.json(await parsed(requestOf(c), await c.req.json())))
app.post('/stream', (c) => stream(c, async (out) => { for await (const part of parts(requestOf(c))) await out.write(part) }))
app.post('/error', fail)
app.onError((error, c) => c.json(failed(requestOf(c)), 500))
const server = serve({ fetch: app.fetch, port: 0, hostname: '127.0.0.1' }, () => listening(server))
`

// Decorators are functions; a compiler would only call them like this.
const NEST = `
import 'reflect-metadata'
import { Body, Catch, Controller, HttpCode, Module, Post, Req, Res, StreamableFile, UseInterceptors } from '@nestjs/common'
import { NestFactory } from '@nestjs/core'
import { tap } from 'rxjs'
class Api {
  places(request, response) { return places(request, request, response) }
  parsed(request, body) { return parsed(request, body) }
  stream(request) { return new StreamableFile(Readable.from(parts(request))) }
  error() { return fail() }
}
const decorate = (name, ...parameters) => {
  for (const each of [Post(name), HttpCode(200)]) each(Api.prototype, name, Object.getOwnPropertyDescriptor(Api.prototype, name))
  parameters.forEach((parameter, index) => parameter(Api.prototype, name, index))
}
decorate('places', Req(), Res({ passthrough: true }))
decorate('parsed', Req(), Body())
decorate('stream', Req())
decorate('error')
class Intercepted {
  intercept(context, next) {
    const request = context.switchToHttp().getRequest()
    return next.handle().pipe(tap(() => void write(request, 'interceptor')))
  }
}
UseInterceptors(Intercepted)(Api.prototype, 'places', Object.getOwnPropertyDescriptor(Api.prototype, 'places'))
Controller()(Api)
class Filter {
  catch(error, host) {
    const context = host.switchToHttp()
    context.getResponse().status(500).json(failed(context.getRequest()))
  }
}
Catch()(Filter)
class App {
  configure(consumer) {
    consumer.apply((request, response, next) => { middleware(request); next() }).forRoutes('*path')
  }
}
Module({ controllers: [Api] })(App)
const app = await NestFactory.create(App, { logger: false, bodyParser: false })
app.useGlobalFilters(new Filter())
app.useBodyParser('json', { limit: '1mb' })
await app.listen(0, '127.0.0.1')
listening(app.getHttpServer())
`

const FASTIFY = `
import Fastify from 'fastify'
const app = Fastify({ http2: process.env.PROTOCOL === 'http2', bodyLimit: 1_000_000 })
app.addContentTypeParser('application/octet-stream', (request, payload, done) => done(null, payload))
app.addHook('onRequest', async (request) => middleware(request))
app.post('/places', (request, reply) => places(request, request.raw, reply.raw))
app.post('/parsed', (request) => parsed(request, request.body))
app.post('/stream', (request, reply) => reply.send(Readable.from(parts(request))))
app.post('/error', fail)
app.setErrorHandler((error, request, reply) => reply.status(500).send(failed(request)))
await app.listen({ port: 0, host: '127.0.0.1' })
listening(app.server)
`

/** The callback of `http.createServer`, which is that of the http2 compatibility API too. */
const PLAIN = `
import http2 from 'node:http2'
const routes = {
  '/places': (request, response) => places(request, request, response),
  '/parsed': async (request) => parsed(request, await readJson(request)),
  '/stream': (request, response) => void Readable.from(parts(request)).pipe(response),
  '/error': fail,
}
const server = (process.env.PROTOCOL === 'http2' ? http2 : http).createServer(async (request, response) => {
  middleware(request)
  const answer = (status, body) => { response.statusCode = status; response.end(JSON.stringify(body)) }
  try {
    const body = await routes[request.url](request, response)
    if (body !== undefined) answer(200, body)
  } catch { answer(500, failed(request)) }
})
server.listen(0, '127.0.0.1', () => listening(server))
`

const STREAMS = `
import http2 from 'node:http2'
const server = http2.createServer()
const routes = {
  '/places': (request, stream) => places(request, stream, stream),
  '/parsed': async (request, stream) => parsed(request, await readJson(stream)),
  '/stream': (request, stream) => { stream.respond({ ':status': 200 }); Readable.from(parts(request)).pipe(stream) },
  '/error': fail,
}
server.on('stream', async (stream, headers) => {
  const request = { headers }
  middleware(request)
  const answer = (status, body) => { stream.respond({ ':status': status }); stream.end(JSON.stringify(body)) }
  try {
    const body = await routes[headers[':path']](request, stream)
    if (body !== undefined) answer(200, body)
  } catch { answer(500, failed(request)) }
})
server.listen(0, '127.0.0.1', () => listening(server))
`

const PLACES = ['await', 'close', 'data', 'end', 'finish', 'handler', 'timer']

/** Where each route writes, beside `middleware`. */
export const ROUTES: Readonly<Record<string, readonly string[]>> = {
  '/places': PLACES,
  '/parsed': ['parsed'],
  '/stream': ['stream', 'stream-end'],
  '/error': ['error'],
}

export interface Framework {
  readonly source: string
  readonly protocol: 'http1' | 'http2'
  /** Where its routes write other than {@link ROUTES} says. */
  readonly routes?: Readonly<Record<string, readonly string[]>>
}

/** The one list of what is held to work as an entry. */
export const FRAMEWORKS: Readonly<Record<string, Framework>> = {
  'Express 5': { source: COMMON + EXPRESS, protocol: 'http1' },
  'Koa 3': { source: COMMON + KOA, protocol: 'http1' },
  'Koa 3 over HTTP/2': { source: COMMON + KOA, protocol: 'http2' },
  'Hono 4': { source: COMMON + HONO, protocol: 'http1' },
  'NestJS 12': {
    source: COMMON + NEST,
    protocol: 'http1',
    routes: { '/places': [...PLACES, 'interceptor'] },
  },
  'Fastify 5': { source: COMMON + FASTIFY, protocol: 'http1' },
  'Fastify 5 over HTTP/2': { source: COMMON + FASTIFY, protocol: 'http2' },
  'node:http': { source: COMMON + PLAIN, protocol: 'http1' },
  'node:http2, compatibility API': { source: COMMON + PLAIN, protocol: 'http2' },
  'node:http2, streams': {
    source: COMMON + STREAMS,
    protocol: 'http2',
    // Node closes a stream whose last frame is out before it would emit 'finish'.
    routes: { '/places': PLACES.filter((place) => place !== 'finish') },
  },
}
