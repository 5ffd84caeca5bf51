import { styleText } from 'node:util'

/** How a word is set off: by colour where there is one, else not at all. The text says everything without it. */
export interface Style {
  bold(text: string): string
  dim(text: string): string
  red(text: string): string
  green(text: string): string
  yellow(text: string): string
}

const identity = (text: string) => text

export const PLAIN: Style = { bold: identity, dim: identity, red: identity, green: identity, yellow: identity }

const paint = (format: Parameters<typeof styleText>[0]) => (text: string) =>
  styleText(format, text, { validateStream: false })

export const COLOURED: Style = {
  bold: paint('bold'),
  dim: paint('dim'),
  red: paint('red'),
  green: paint('green'),
  yellow: paint('yellow'),
}

/** Colour for a terminal, unless NO_COLOR or FORCE_COLOR say otherwise. */
export function styleFor(stream: NodeJS.WriteStream): Style {
  // styleText knows the rules for the stream and the environment: ask it once.
  return styleText('bold', 'x', { stream }) === 'x' ? PLAIN : COLOURED
}

/** Columns of a terminal; 80 for a pipe or a file, unless COLUMNS says otherwise. */
export function widthFor(stream: NodeJS.WriteStream, env: NodeJS.ProcessEnv): number {
  const columns = stream.columns ?? Number(env['COLUMNS'])
  return Number.isInteger(columns) && columns > 0 ? Math.max(columns, 40) : 80
}
