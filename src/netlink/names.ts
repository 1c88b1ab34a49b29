/** Names for the kernel's small numbers, both ways. A number without a name stays a number. */

export interface Names<N extends string> {
  nameOf(value: number): N | number
  valueOf(name: N | number): number
}

export function names<const N extends string>(table: Readonly<Record<N, number>>): Names<N> {
  const byValue: (N | undefined)[] = []
  for (const name in table) byValue[table[name]] = name
  return {
    nameOf: (value) => byValue[value] ?? value,
    valueOf: (name) => (typeof name === 'number' ? name : table[name]),
  }
}
