// Breaks one step of the guard, to see that the effect stays blocked. FAULT is classify or record.
const { slots } = globalThis[Symbol.for('drytrace.v1')]
const guard = slots.get('guard')
const { decide, record } = guard

if (process.env.FAULT === 'classify') {
  guard.decide = (run, hook, classify) =>
    decide(run, hook, () => {
      classify()
      throw new Error('injected into classify')
    })
}
if (process.env.FAULT === 'record') {
  guard.record = (decision, detail) => {
    if (decision.effect.kind === 'read') return record(decision, detail)
    throw new Error('injected into record')
  }
}
