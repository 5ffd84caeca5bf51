// Writes dashboards/*.json from dashboards/src: node dashboards/build.mjs
import { existsSync, writeFileSync } from 'node:fs'
import { registerHooks } from 'node:module'
import { fileURLToPath } from 'node:url'

// TypeScript wants relative imports to end in .js; Node strips types but does not look for the .ts file behind them.
registerHooks({
  resolve(specifier, context, next) {
    const url = specifier.startsWith('.') ? new URL(specifier.replace(/\.js$/, '.ts'), context.parentURL) : undefined
    return next(url && existsSync(url) ? url.href : specifier, context)
  },
})

const { files } = await import('./src/all.js')
for (const [name, json] of files()) {
  writeFileSync(fileURLToPath(new URL(name, import.meta.url)), json)
  process.stdout.write(`dashboards/${name}\n`)
}
