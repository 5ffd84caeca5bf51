import { existsSync } from 'node:fs'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { ROOT } from '../../../support/child.js'

/** Where `npm ci --prefix test/clients` puts real clients. */
export const CLIENT_MODULES = path.join(ROOT, 'test/clients/node_modules')
const axios = path.join(CLIENT_MODULES, 'axios/index.js')
export const installed = existsSync(axios)

/** `send(method, path, {body, headers})` -> {status, headers, body, text}. */
export const CLIENTS: Readonly<Record<string, string>> = {
  'node:http': `
    import http from 'node:http'
    const agent = new http.Agent({ keepAlive: true })
    const send = (method, path, { body, headers = {} } = {}) => new Promise((resolve, reject) => {
      const request = http.request(process.env.URL + path, { method, agent, headers: { ...type(body), ...headers } }, (response) => {
        const chunks = []
        response.on('data', (chunk) => chunks.push(chunk))
        response.on('end', () => resolve(seen(response.statusCode, response.headers, unpack(Buffer.concat(chunks), response.headers))))
        response.on('error', reject)
      })
      request.on('error', reject)
      request.end(text(body))
    })`,
  fetch: `
    const send = async (method, path, { body, headers = {} } = {}) => {
      const response = await fetch(process.env.URL + path, { method, body: text(body), headers: { ...type(body), ...headers } })
      return seen(response.status, Object.fromEntries(response.headers), await response.text())
    }`,
  undici: `
    import { request } from 'undici'
    const send = async (method, path, { body, headers = {} } = {}) => {
      const response = await request(process.env.URL + path, { method, body: text(body), headers: { ...type(body), ...headers } })
      return seen(response.statusCode, response.headers, unpack(Buffer.from(await response.body.arrayBuffer()), response.headers))
    }`,
  http2: `
    import http2 from 'node:http2'
    let session
    const send = (method, path, { body, headers = {} } = {}) => new Promise((resolve, reject) => {
      session ??= http2.connect(process.env.URL)
      const stream = session.request({ ':method': method, ':path': path, ...type(body), ...headers })
      let head
      const chunks = []
      stream.on('response', (answer) => { head = answer })
      stream.on('data', (chunk) => chunks.push(chunk))
      stream.on('end', () => resolve(seen(head[':status'], head, unpack(Buffer.concat(chunks), head))))
      stream.on('error', reject)
      stream.end(text(body))
    })`,
  ...(installed
    ? {
        axios: `
    import axios from ${JSON.stringify(pathToFileURL(axios).href)}
    const send = async (method, path, { body, headers = {} } = {}) => {
      const response = await axios.request({ method, url: process.env.URL + path, data: text(body), headers: { ...type(body), ...headers }, validateStatus: () => true, transformResponse: (raw) => raw })
      return seen(response.status, { ...response.headers }, response.data ?? '')
    }`,
      }
    : {}),
}

/** What all of them need. */
export const HELPERS = `
  import zlib from 'node:zlib'
  const text = (body) => body === undefined || typeof body === 'string' ? body : JSON.stringify(body)
  const type = (body) => body === undefined ? {} : { 'content-type': 'application/json' }
  const json = (raw) => { try { return JSON.parse(raw) } catch { return undefined } }
  const seen = (status, headers, raw) => ({ status, headers, text: raw.slice(0, 2000), size: raw.length, body: json(raw) })
  const unpack = (bytes, headers) => {
    const decode = { gzip: zlib.gunzipSync, br: zlib.brotliDecompressSync, zstd: zlib.zstdDecompressSync }[headers['content-encoding']]
    return (decode === undefined ? bytes : decode(bytes)).toString()
  }`
