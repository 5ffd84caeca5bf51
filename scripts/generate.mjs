import { writeFileSync } from 'node:fs'
import { files } from './generated.mjs'

for (const [name, text] of Object.entries(files)) {
  writeFileSync(new URL(`../${name}`, import.meta.url), text)
  console.log(`wrote ${name}`)
}
