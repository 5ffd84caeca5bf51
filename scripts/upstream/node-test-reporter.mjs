// One line of JSON per test of node:test: [full name, outcome].
// biome-ignore lint/style/noDefaultExport: node:test asks for it
export default async function* report(source) {
  const path = []
  for await (const { type, data } of source) {
    if (type === 'test:start') path[data.nesting] = data.name
    if (type !== 'test:pass' && type !== 'test:fail') continue
    const skipped = data.skip !== undefined || data.todo !== undefined
    const name = [...path.slice(0, data.nesting), data.name].join(' > ')
    yield `${JSON.stringify([name, skipped ? 'skip' : type === 'test:pass' ? 'pass' : 'fail'])}\n`
  }
}
