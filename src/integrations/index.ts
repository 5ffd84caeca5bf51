import { grpcIntegration } from './grpc-js/grpc-js.js'
import { httpIntegration } from './http/http.js'
import { http2Integration } from './http2/http2.js'
import type { Integration } from './integration.js'
import { nodemailerIntegration } from './nodemailer/nodemailer.js'
import { pgIntegration, pgNativeIntegration, pgPoolIntegration } from './pg/pg.js'
import { pgBossIntegration } from './pg-boss/pg-boss.js'
import { postgresJsIntegration } from './postgres-js/postgres-js.js'
import { processIntegration } from './process/process.js'
import { undiciIntegration } from './undici/undici.js'

/** Every client library that is met. A new one is a folder beside these and a line here. */
export const integrations: readonly Integration[] = [
  httpIntegration,
  http2Integration,
  undiciIntegration,
  grpcIntegration,
  pgIntegration,
  pgPoolIntegration,
  pgNativeIntegration,
  postgresJsIntegration,
  nodemailerIntegration,
  pgBossIntegration,
  processIntegration,
] as readonly Integration[]
