const ASCII = /^[\x20-\x7e]*$/
const WIDE =
  /[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{20000}-\u{3fffd}]|\p{Emoji_Presentation}/u
const ZERO_WIDTH = /\p{Mn}|\p{Me}|\u200b|\u200c|\u200d|[\ufe00-\ufe0f]/u
/** Controls, and the marks that change the direction of text: they could repaint the screen or hide what a line says. */
const UNSAFE = /[\p{Cc}\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\u061c\ufeff]/gu

/** Columns a text takes on a terminal. */
export function width(text: string): number {
  if (ASCII.test(text)) return text.length
  let columns = 0
  for (const char of text) columns += ZERO_WIDTH.test(char) ? 0 : WIDE.test(char) ? 2 : 1
  return columns
}

/** The text with everything a terminal would obey written out, so that data cannot repaint the report. */
export function safe(text: string): string {
  return text.replace(UNSAFE, (char) => {
    if (char === '\n') return '\\n'
    if (char === '\t') return '\\t'
    return `\\u${char.codePointAt(0)!.toString(16).padStart(4, '0')}`
  })
}

/** The beginning of a text, at most so many columns wide, and how many characters were left off. */
export function head(text: string, columns: number): { readonly text: string; readonly cut: number } {
  if (width(text) <= columns) return { text, cut: 0 }
  let kept = ''
  let used = 0
  let count = 0
  for (const char of text) {
    used += width(char)
    if (used > columns) break
    kept += char
    count += 1
  }
  return { text: kept, cut: [...text].length - count }
}

/** One line cut to shorten, `…` at its end when it was. */
export function shorten(text: string, columns: number): string {
  return width(text) <= columns ? text : `${head(text, columns - 1).text}…`
}

export function padEnd(text: string, columns: number): string {
  return text + ' '.repeat(Math.max(0, columns - width(text)))
}

export function padStart(text: string, columns: number): string {
  return ' '.repeat(Math.max(0, columns - width(text))) + text
}

/** Lines of at most so many columns, broken at blanks; a longer word stands alone on its line. */
export function wrap(text: string, columns: number): string[] {
  const lines: string[] = []
  let line = ''
  for (const word of text.split(' ')) {
    if (line !== '' && width(line) + 1 + width(word) > columns) {
      lines.push(line)
      line = word
    } else {
      line = line === '' ? word : `${line} ${word}`
    }
  }
  return [...lines, line]
}

/** `1 write`, `12 writes`. */
export function count(number: number, one: string, many = `${one}s`): string {
  return `${thousands(number)} ${number === 1 ? one : many}`
}

export function thousands(number: number): string {
  return String(number).replace(/\B(?=(\d{3})+$)/g, ',')
}

export function bytes(number: number): string {
  if (number < 1024) return `${number} B`
  if (number < 1024 * 1024) return `${(number / 1024).toFixed(1)} KiB`
  return `${(number / 1024 / 1024).toFixed(1)} MiB`
}

/** Milliseconds as people read them: `12 ms`, `1.24 s`, `3 m 02 s`. */
export function duration(milliseconds: number): string {
  if (milliseconds < 1000) return `${milliseconds} ms`
  if (milliseconds < 60_000) return `${(milliseconds / 1000).toFixed(2)} s`
  const seconds = Math.round(milliseconds / 1000)
  if (seconds < 3600) return `${Math.floor(seconds / 60)} m ${String(seconds % 60).padStart(2, '0')} s`
  return `${Math.floor(seconds / 3600)} h ${String(Math.floor((seconds % 3600) / 60)).padStart(2, '0')} m`
}

/** Time since the beginning of the run: `+0.012s`, `+3m02.500s`. */
export function offset(milliseconds: number): string {
  const seconds = milliseconds / 1000
  if (seconds < 60) return `+${seconds.toFixed(3)}s`
  const minutes = Math.floor(seconds / 60)
  return `+${minutes}m${(seconds - minutes * 60).toFixed(3).padStart(6, '0')}s`
}
