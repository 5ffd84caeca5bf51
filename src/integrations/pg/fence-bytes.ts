const NUL = Buffer.of(0)
/** The unnamed portal, no limit to its rows. */
const EXECUTE = message('E', NUL, int32(0))
/** The unnamed portal of the unnamed statement, no parameters, results as text. */
const BIND = message('B', NUL, NUL, int16(0), int16(0), int16(0))

const known = new Map<string, Buffer>()
/** Few are in use; what they check may differ from tenant to tenant. */
const MAX_KNOWN = 200

/**
 * Parse, Bind and Execute of a constant of ours, as the frontend/backend
 * protocol has them. A fence goes out with every dry statement, and making its
 * six messages anew costs more than sending them.
 */
export function fenceBytes(text: string): Buffer {
  let bytes = known.get(text)
  if (bytes === undefined) {
    bytes = Buffer.concat([message('P', NUL, Buffer.from(text), NUL, int16(0)), BIND, EXECUTE])
    if (known.size >= MAX_KNOWN) known.clear()
    known.set(text, bytes)
  }
  return bytes
}

function message(type: string, ...parts: readonly Buffer[]): Buffer {
  const body = Buffer.concat(parts)
  return Buffer.concat([Buffer.from(type), int32(body.length + 4), body])
}

function int16(value: number): Buffer {
  const bytes = Buffer.alloc(2)
  bytes.writeInt16BE(value)
  return bytes
}

function int32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32BE(value)
  return bytes
}
