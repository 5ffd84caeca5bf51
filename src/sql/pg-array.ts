/** The elements of a one-dimensional PostgreSQL array in its text form, `{a,"b c",NULL}`. */
export function parseTextArray(text: string): (string | null)[] {
  const elements: (string | null)[] = []
  const end = text.length - 1
  let at = 1
  while (at < end) {
    if (text[at] === '"') {
      let element = ''
      at++
      while (at < end && text[at] !== '"') {
        if (text[at] === '\\') at++
        element += text[at++]
      }
      elements.push(element)
      at++
    } else {
      let stop = text.indexOf(',', at)
      if (stop < 0) stop = end
      const element = text.slice(at, stop)
      elements.push(element === 'NULL' ? null : element)
      at = stop
    }
    if (text[at] === ',') at++
  }
  return elements
}
