/**
 * Clients that can write and have no integration yet, for `drytrace doctor`.
 * Those that speak HTTP are not among them: they go through Node's own, which
 * is guarded.
 *
 * - `socket`: uses Node's sockets, so the fence refuses it in a dry run.
 * - `native`: has its own sockets or files, which nothing of ours can see.
 */
export const UNGUARDED_CLIENTS: ReadonlyMap<string, 'socket' | 'native'> = new Map([
  ['postgres', 'socket'],
  ['mysql2', 'socket'],
  ['mysql', 'socket'],
  ['mariadb', 'socket'],
  ['tedious', 'socket'],
  ['mongodb', 'socket'],
  ['ioredis', 'socket'],
  ['@redis/client', 'socket'],
  ['cassandra-driver', 'socket'],
  ['neo4j-driver', 'socket'],
  ['bullmq', 'socket'],
  ['bull', 'socket'],
  ['kafkajs', 'socket'],
  ['amqplib', 'socket'],
  ['mqtt', 'socket'],
  ['nats', 'socket'],
  ['@grpc/grpc-js', 'socket'],
  ['@prisma/engines', 'native'],
  ['oracledb', 'native'],
  ['better-sqlite3', 'native'],
  ['sqlite3', 'native'],
  ['node-rdkafka', 'native'],
  ['@confluentinc/kafka-javascript', 'native'],
])
