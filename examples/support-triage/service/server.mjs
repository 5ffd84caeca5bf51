import { buildApp } from './app.mjs'
import { readConfig } from './config.mjs'

const config = readConfig()
const app = await buildApp(config)

let closing = false
for (const signal of ['SIGTERM', 'SIGINT']) {
  process.on(signal, async () => {
    if (closing) return
    closing = true
    app.log.info(`${signal}: closing`)
    try {
      await app.close()
      process.exit(0)
    } catch (error) {
      app.log.error(error)
      process.exit(1)
    }
  })
}

await app.listen({ host: config.host, port: config.port })
