/** Tests whose outcome is not the same. */
export function compare(without, withGuard) {
  const names = [...new Set([...without.keys(), ...withGuard.keys()])].sort()
  return names
    .map((name) => ({ name, without: without.get(name) ?? 'absent', with: withGuard.get(name) ?? 'absent' }))
    .filter((one) => one.without !== one.with)
}

export function totals(results) {
  const count = { pass: 0, fail: 0, skip: 0, hang: 0 }
  for (const outcome of results.values()) count[outcome]++
  return count
}
