import { createRequire } from 'node:module'

/** Version of this copy of drytrace, from its own package.json (a package may refer to itself by name). */
export const VERSION: string = (createRequire(import.meta.url)('drytrace/package.json') as { version: string }).version
