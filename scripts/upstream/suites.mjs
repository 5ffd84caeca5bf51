import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import path from 'node:path'

/**
 * Other projects' own test suites. `ref` is the tag that is tested; `paths` what
 * is taken of the sources; `install` the packages its tests need, by name as
 * upstream's package.json gives their versions, or with a version of our own;
 * `runner` how one file is run; `files` which. `postgres` suites get a database;
 * `tools` are programs that a dry run may start.
 */
export const suites = {
  undici: {
    repository: 'nodejs/undici',
    ref: 'v8.10.0',
    runner: 'node-test',
    install: [
      '@fastify/busboy',
      '@matteo.collina/tspl',
      '@metcoder95/https-pem',
      '@sinonjs/fake-timers',
      'abort-controller',
      'dns-packet',
      'fast-check',
      'jsondiffpatch',
      'node-forge',
      'proxy',
      'ws',
      'cross-env',
      'esbuild',
      'borp',
    ],
    setup: [['scripts/generate-pem.js']],
    files: (tree) =>
      [
        '',
        'fetch',
        'node-fetch',
        'interceptors',
        'mock',
        'cookie',
        'cache-interceptor',
        'cache',
        'websocket',
        'node-test',
        'busboy',
        'infra',
        'webidl',
        'subresource-integrity',
        'eventsource',
      ]
        .flatMap((folder) => filesIn(tree, path.join('test', folder), /\.js$/))
        // Upstream bundles itself for these; the bundle is not part of this comparison.
        .filter(
          (file) =>
            !/bundle|user-agent|client-error-stack-trace|issue-1447|client-node-max-header-size|export-env-proxy-agent|cache-tests/.test(
              file,
            ),
        ),
    nodeArguments: ['--expose-gc'],
  },
  axios: {
    repository: 'axios/axios',
    ref: 'v1.7.9',
    runner: 'mocha',
    install: [
      'abortcontroller-polyfill',
      'body-parser',
      'dev-null',
      'express',
      'formdata-node',
      'formidable',
      'fs-extra',
      'get-stream',
      'mocha',
      'multer',
      'pretty-bytes',
      'stream-throttle',
      'string-replace-async',
      'sinon',
    ],
    files: (tree) => filesBelow(tree, 'test/unit', /\.js$/),
    runnerArguments: ['--timeout', '30000', '--exit'],
  },
  got: {
    repository: 'sindresorhus/got',
    ref: 'v15.0.5',
    runner: 'ava',
    install: [
      '@hapi/bourne',
      '@sindresorhus/tsconfig',
      '@sinonjs/fake-timers',
      'ava',
      'axios',
      'bluebird',
      'body-parser',
      'create-cert',
      'create-test-server',
      'delay',
      'expect-type',
      'express',
      'get-stream',
      'node-fetch',
      'p-event',
      'pem',
      'pify',
      'quick-lru',
      'readable-stream',
      'request',
      'sinon',
      'slow-stream',
      'tempy',
      'then-busboy',
      'tough-cookie',
      'tsx',
      'typescript',
    ],
    files: (tree) => filesIn(tree, 'test', /(?<!\.types)\.ts$/),
    preload: ['tsx/esm'],
    together: true,
    runnerArguments: ['--concurrency=2', '--timeout=2m'],
  },
  'node-postgres': {
    repository: 'brianc/node-postgres',
    ref: 'pg@8.23.0',
    runner: 'script',
    postgres: true,
    dry: true,
    paths: ['packages/pg', 'packages/pg-pool', 'packages/pg-cursor', 'package.json', 'LICENSE'],
    // What upstream compiles from TypeScript comes from its own releases.
    install: [
      'pg-protocol@1.16.0',
      'pg-connection-string@2.14.0',
      'pg-types@2.2.0',
      'pgpass@1.0.5',
      'async@2.6.4',
      'bluebird@3.7.2',
      'co@4.6.0',
      'pg-copy-streams@0.3.0',
      'expect.js@0.3.1',
      'lodash@4.17.21',
      'mocha@11.7.5',
      'pg@file:packages/pg',
      'pg-pool@file:packages/pg-pool',
      'pg-cursor@file:packages/pg-cursor',
    ],
    files: (tree) => [
      ...filesBelow(tree, 'packages/pg/test/unit', /-tests\.js$/),
      ...filesBelow(tree, 'packages/pg/test/integration', /-tests\.js$/),
      ...filesIn(tree, 'packages/pg-pool/test', /(?<!setup|idle-timeout-exit)\.js$/),
      ...filesIn(tree, 'packages/pg-cursor/test', /\.js$/),
    ],
    // The packages beside pg use mocha.
    runnerOf: (file) => (file.startsWith('packages/pg/') ? 'script' : 'mocha'),
    runnerArguments: ['--require', 'packages/pg-pool/test/setup.js', '--exit'],
    directoryOf: (file) => file.split('/').slice(0, 2).join('/'),
    programArguments: ['postgres://'],
  },
  kysely: {
    repository: 'kysely-org/kysely',
    ref: 'v0.29.5',
    runner: 'mocha',
    postgres: true,
    dry: true,
    paths: ['test/node/src', 'package.json', 'tsconfig.json', 'tsconfig-base.json', 'LICENSE'],
    install: [
      '@electric-sql/pglite',
      'better-sqlite3',
      'chai',
      'chai-as-promised',
      'mocha',
      'mysql2',
      'pathe',
      'pg',
      'pg-cursor',
      'prototype-pollution-vulnerable-lodash.merge-dont-upgrade',
      'remeda',
      'semver',
      'sinon',
      'std-env',
      'tarn',
      'tedious',
      'tsx',
      'kysely-release@npm:kysely@0.29.5',
    ],
    // The library itself is the released package of the same version.
    links: { dist: 'node_modules/kysely-release/dist' },
    files: (tree) => filesIn(tree, 'test/node/src', /\.test\.ts$/),
    preload: ['tsx'],
    tools: ['esbuild'],
    together: true,
    runnerArguments: ['--timeout', '15000', '--exit'],
    database: 'kysely_test',
    user: 'kysely',
    env: { DIALECTS: 'postgres' },
    note:
      'The cancellation test races a timer against the server: on a loaded machine it failed without the preload and ' +
      'passed with it in one run, and the other way round in the next.',
    configure(tree, { port }) {
      const file = path.join(tree, 'test/node/src/test-setup.ts')
      // The server's port is a constant there, and ours is whichever is free.
      writeFileSync(
        file,
        readFileSync(file, 'utf8').replace(/(user: 'kysely',\n\s+password: 'kysely',\n\s+port: )\d+/, `$1${port}`),
      )
      return {}
    },
  },
  knex: {
    repository: 'knex/knex',
    ref: '3.3.0',
    runner: 'mocha',
    postgres: true,
    dry: true,
    install: [
      'chai',
      'chai-as-promised',
      'chai-subset-in-order',
      'cli-testlab',
      'jake',
      'JSONStream',
      'mocha',
      'mock-fs',
      'pg',
      'pg-query-stream',
      'rimraf',
      'semver',
      'sinon',
      'sinon-chai',
      'source-map-support',
      'tape',
      'toxiproxy-node-client',
    ],
    // One process, as upstream runs it: the files prepare tables for each other.
    together: true,
    files: (tree) => [
      'test/prep-db-mocha.js',
      'test/integration-test-suite.js',
      ...filesBelow(tree, 'test/integration2', /\.spec\.js$/).filter((file) => !OTHER_DATABASES.test(file)),
    ],
    runnerArguments: ['--exit', '--timeout', '10000'],
    database: 'knex_test',
    user: 'testuser',
    env: { DB: 'postgres' },
    configure(tree, postgres) {
      const file = path.join(tree, 'knex-test-config.cjs')
      const { host, port, user, password, database } = postgres
      writeFileSync(
        file,
        `module.exports = ${JSON.stringify({ postgres: { adapter: 'postgresql', host, port, user, password, database } })}\n`,
      )
      return { KNEX_TEST: file }
    },
  },
}

/** Specs of knex that load the drivers of other databases. */
const OTHER_DATABASES = /dialects\/(?!postgres)|sqlite\.spec/

function filesIn(tree, folder, pattern) {
  return readdirSync(path.join(tree, folder))
    .filter((name) => pattern.test(name) && statSync(path.join(tree, folder, name)).isFile())
    .map((name) => path.posix.join(folder, name))
    .sort()
}

function filesBelow(tree, folder, pattern) {
  return readdirSync(path.join(tree, folder), { recursive: true })
    .map((name) => path.posix.join(folder, name))
    .filter((name) => pattern.test(name))
    .sort()
}
