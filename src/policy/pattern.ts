/**
 * A pattern of the policy file. `*` stands for any run of characters but the
 * separator, `**` for any run at all, `|` separates alternatives. Case is
 * ignored: hosts, methods and SQL names are compared as people write them.
 */
export function compilePattern(pattern: string, separator: string): (value: string) => boolean {
  const alternatives = pattern.split('|').map((alternative) => {
    const source = alternative
      .split(/(\*\*|\*)/)
      .map((part) => (part === '**' ? '.*' : part === '*' ? `[^${quote(separator)}]*` : quote(part)))
      .join('')
    return new RegExp(`^${source}$`, 'is')
  })
  return (value) => alternatives.some((alternative) => alternative.test(value))
}

function quote(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\/-]/g, '\\$&')
}
