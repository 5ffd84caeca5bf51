import { availableParallelism, cpus } from 'node:os'

const table = (head, rows) =>
  [head, head.map((_, index) => (index === 0 ? '---' : '---:')), ...rows]
    .map((cells) => `| ${cells.join(' | ')} |`)
    .join('\n')
const us = (value) => (value >= 1000 ? `${(value / 1000).toFixed(2)} ms` : `${value.toFixed(0)} us`)

/** docs/performance.md. @param figures of all sections of `npm run bench` */
export function document({ rounds, load, live, micro, dry, dryFast }) {
  const ns = (name) => micro.find((row) => row.name === name).cost
  const dryRows = (rows) =>
    rows.map(({ name, live, dry, ratio, roundTrips }) => [
      name,
      us(live),
      us(dry),
      ratio.toFixed(2),
      roundTrips[1].toFixed(1),
    ])
  return `# Performance

Written by \`npm run bench -- --write\`. Every figure stands beside its baseline from the same run, measured in turns, so
the ratios hold where the absolute times do not. This run: Node ${process.versions.node}, ${availableParallelism()} cores of
${cpus()[0]?.model ?? 'an unknown processor'} in a virtual machine, PostgreSQL 18 on the same machine over loopback, ${rounds} rounds, load average
${load.toFixed(1)} at the start. Other work can only add to a time, so low quantiles are compared and not medians; where the load is
more than the cores, a statement that takes longer is interrupted more often, and its ratio is too high rather than too low.

## Live traffic, with the preload and no dry run

Whole processes in ABBA order, the lowest time per operation of each kind; start-up is the wall time of a process that does nothing.

${table(
  ['workload', 'without', 'with', 'ratio'],
  live.map(({ name, without, guarded, ratio }) => [name, us(without), us(guarded), ratio.toFixed(3)]),
)}

On this machine at rest (load below 1) a bare process took 25 ms, one with the preload 67 ms; 136 ms when the preload was some
two hundred modules and not one file (\`dist/chunks/guard.js\`). Much of what is left is \`node:http\`, \`node:https\`, \`node:crypto\`
and \`node:tls\`, which a server loads in any case. The SQL grammar, the policy parser and the OpenTelemetry API are loaded with
their first use.

Too small to be seen over a socket, in one process: pg's \`Client.query\` beside a copy of the same library the preload does
not know, on a connection that answers at once; undici's channel for new requests, which the preload listens to.

${table(
  ['a live call costs', 'time'],
  [
    ['`pg` query', `${ns('live pg query').toFixed(0)} ns`],
    ['undici request (fetch)', `${ns('live undici request').toFixed(0)} ns`],
  ],
)}

undici's channel is subscribed to from the start and not with the first run: a run that shows up in no other way than by
its OpenTelemetry baggage does so in its first request, and must be met there.

## A dry run's statements

Judging and deciding, in process, lower quartile of short blocks:

${table(
  ['step', 'time'],
  [
    ['decision, statement judged before', `${(ns('decision, statement judged before') / 1000).toFixed(2)} us`],
    [
      'statement judged for the first time (a join of 250 characters)',
      us(ns('statement judged for the first time') / 1000),
    ],
  ],
)}

The same statement executed live and in a dry run, on one connection in turns; lower deciles. Each dry turn is a run of its own,
whose first statements are not measured, and three thousand of each go before, so that what is compared is a process that has
run for a while. Every commit reaches the disk:

${table(['statement', 'live', 'dry', 'ratio', 'round trips'], dryRows(dry))}

With \`synchronous_commit = off\`, so that the real write waits for nothing:

${table(['statement', 'live', 'dry', 'ratio', 'round trips'], dryRows(dryFast))}

A dry read is \`BEGIN READ ONLY\`, the statement and \`ROLLBACK\` under one Sync. Its record is written to the journal while
the server works, and before anything of the answer reaches the caller; a blocked write's record is written before its
result is handed out. What a dry read costs beyond the live one is the decision, the record (one \`write\` to the journal
file) and the server's work for the two added commands: a fixed amount per statement, which is a large part of a read of
a tenth of a millisecond and none of one that takes ten.

## What is remembered, and for how long

The first blocked write of its kind asks the catalog and takes several round trips. The same text again takes one, in any
run of the process. Remembered for five seconds, at most a thousand entries: what the catalog says of a table, what a
name means, a preview, a read over the run's own rows. In the same round trip as each use the server

- fails everything up to the Sync when names would mean something else than they did (search path, temporary schema, role);
- describes the statement again: its parameters and columns must be as remembered;
- for a write, describes the table's row again: the same table, the same columns and types.

Whatever is not as remembered is dropped and worked out anew. A definition that live code of the same process changes
drops everything at once. What no check sees is a default, a CHECK, an index, a trigger or a view that another process
changed less than five seconds ago: a preview may then be wrong in that detail. It is a preview all the same; nothing of this
decides what may run. The scan for dangerous functions is kept for a minute per database.

The first check is left out while nothing else has run on the connection. Behind a pooler that hands each transaction to
some session nothing is remembered outside of transactions.

The texts of a remembered preview, with made-up ids as parameters, and of what surrounds it are prepared on the connection
under names that begin with \`drytrace_\`, at most fifty of them, so that the server parses and plans them once. If a name
is gone (\`DISCARD ALL\`), the statement is worked out anew. Inside an application's dry transaction the same is done
behind a savepoint.
`
}
