import net from 'node:net'
import { serialize } from 'pg-protocol'

/** One client's connection through us to a server: relays, and asks questions of its own on the same session. */
export class Session {
  status = 'I'
  #frontend
  #place
  #backend
  #sink = undefined
  #queue = Promise.resolve()

  /**
   * @param onQuery called with each simple query before it is sent; it must `relay` or execute it itself
   * @param place what was going on, for errors
   */
  constructor(frontend, target, onQuery, place = () => '') {
    this.#frontend = frontend
    this.#place = place
    this.#backend = net.connect(target.port, target.host)
    let started = false
    frames(
      this.#backend,
      () => true,
      (message) => this.#fromServer(message),
    )
    frames(
      frontend,
      () => started,
      (message) => {
        if (!started) {
          started = true
          this.#backend.write(message)
        } else if (message[0] === 0x51) {
          const text = message.toString('utf8', 5, message.length - 1)
          this.#queue = this.#queue.then(() => onQuery(this, text)).catch((error) => this.#fail(error))
        } else this.#backend.write(message)
      },
    )
    for (const socket of [frontend, this.#backend]) {
      socket.setNoDelay(true)
      socket.on('error', () => this.#close())
      socket.on('close', () => this.#close())
    }
  }

  #close() {
    this.#frontend.destroy()
    this.#backend.destroy()
    this.#sink?.(undefined)
  }

  #fail(error) {
    process.stderr.write(`fidelity: ${this.#place()}: ${error?.stack ?? error}\n`)
    this.#close()
  }

  #fromServer(message) {
    if (message[0] === 0x5a) this.status = String.fromCharCode(message[5])
    // Parameter changes and notices belong to the client whoever asked.
    if (this.#sink === undefined || message[0] === 0x53) this.#frontend.write(message)
    else this.#sink(message)
  }

  #collect(bytes, onMessage) {
    return new Promise((resolve, reject) => {
      this.#sink = (message) => {
        if (message === undefined) return reject(new Error('the connection is gone'))
        if (message[0] === 0x5a) {
          this.#sink = undefined
          resolve()
        } else onMessage(message)
      }
      this.#backend.write(bytes)
    })
  }

  /** Sends the client's query on as it is; done when the server is ready again. */
  relay(text) {
    return new Promise((resolve, reject) => {
      this.#sink = (message) => {
        if (message === undefined) return reject(new Error(`the connection is gone, at ${text.slice(0, 200)}`))
        this.#frontend.write(message)
        if (message[0] === 0x5a) {
          this.#sink = undefined
          resolve()
        }
      }
      this.#backend.write(serialize.query(text))
    })
  }

  /** A query in the simple protocol. With `show`, the client sees the answer too, but not that the server is ready. */
  async simple(text, show = false) {
    const answer = { rows: [], tag: undefined, error: undefined }
    await this.#collect(serialize.query(text), (message) => {
      if (show) this.#frontend.write(message)
      read(message, answer)
    })
    return answer
  }

  /** One statement in the extended protocol. */
  async extended({ text, values = [], types = [], describe = false }) {
    const answer = { rows: [], tag: undefined, error: undefined, fields: undefined, parameterTypes: undefined }
    const messages = [serialize.parse({ text, types: [...types] })]
    if (describe) messages.push(serialize.describe({ type: 'S' }))
    else
      messages.push(serialize.bind({ values: [...values] }), serialize.describe({ type: 'P' }), serialize.execute({}))
    messages.push(serialize.sync())
    await this.#collect(Buffer.concat(messages), (message) => read(message, answer))
    return answer
  }

  /** Tells the client that the server is ready. */
  ready() {
    this.#frontend.write(Buffer.from([0x5a, 0, 0, 0, 5, this.status.charCodeAt(0)]))
  }
}

function read(message, answer) {
  switch (String.fromCharCode(message[0])) {
    case 'D':
      answer.rows.push(dataRow(message))
      break
    case 'C':
      answer.tag = message.toString('utf8', 5, message.length - 1)
      break
    case 'T':
      answer.fields = { fields: Array.from({ length: message.readUInt16BE(5) }) }
      break
    case 't':
      answer.parameterTypes = Array.from({ length: message.readUInt16BE(5) }, (_, index) =>
        message.readUInt32BE(7 + 4 * index),
      )
      break
    case 'E':
      answer.error ??= errorOf(message)
      break
  }
}

function dataRow(message) {
  let at = 7
  return Array.from({ length: message.readUInt16BE(5) }, () => {
    const length = message.readInt32BE(at)
    at += 4
    if (length < 0) return null
    at += length
    return message.toString('utf8', at - length, at)
  })
}

function errorOf(message) {
  const fields = message.toString('utf8', 5).split('\0')
  const field = (name) => fields.find((text) => text.startsWith(name))?.slice(1)
  return Object.assign(new Error(field('M')), { code: field('C') })
}

/** Calls back with each whole message; the first of a client has no type byte. */
function frames(socket, typed, onMessage) {
  let pending = Buffer.alloc(0)
  socket.on('data', (chunk) => {
    pending = pending.length === 0 ? chunk : Buffer.concat([pending, chunk])
    for (;;) {
      const header = typed() ? 1 : 0
      if (pending.length < header + 4) return
      const length = header + pending.readUInt32BE(header)
      if (pending.length < length) return
      const message = pending.subarray(0, length)
      pending = pending.subarray(length)
      onMessage(message)
    }
  })
}
