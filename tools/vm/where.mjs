/** @typedef {import('./record.mjs').Record} Record */

/**
 * @param {Readonly<Record<string, readonly Record[]>>} runs by the name of where they ran
 * @returns {{ table: readonly string[], nowhere: readonly string[] }}
 */
export function compare(runs) {
  const places = Object.keys(runs)
  /** @type {Map<string, { file: string, name: string, ran: Set<string>, reasons: Set<string>, places: Set<string> }>} */
  const tests = new Map()
  for (const [place, records] of Object.entries(runs)) {
    for (const { file, name, outcome, reason = 'no reason given' } of records) {
      const key = `${file}\0${name}`
      const test = tests.get(key) ?? { file, name, ran: new Set(), reasons: new Set(), places: new Set() }
      tests.set(key, test)
      test.places.add(place)
      if (outcome === 'skipped') test.reasons.add(reason)
      else test.ran.add(place)
    }
  }
  const all = [...tests.values()]
  const count = (of, place) => of.filter(({ ran }) => ran.has(place)).length
  const table = [`all: ${all.length} tests; ${places.map((place) => `${count(all, place)} ran ${place}`).join(', ')}`]
  // Only where something is not as everywhere: skipped once, or not run on this machine alone.
  const files = [...new Set(all.filter(({ reasons, ran }) => reasons.size > 0 || ran.size > 1).map(({ file }) => file))]
  for (const file of files.toSorted()) {
    const of = all.filter((test) => test.file === file)
    const reasons = [...new Set(of.flatMap((test) => [...test.reasons]))]
    const ran = places.map((place) => `${count(of, place)} ${place}`).join(', ')
    table.push(`  ${file}: ${of.length} tests; ${ran}${reasons.length === 0 ? '' : ` (${reasons.join('; ')})`}`)
  }
  const nowhere = all
    .filter(({ ran }) => ran.size === 0)
    .map(({ file, name, reasons }) => `${file}: ${name}: ${[...reasons].join('; ')}`)
  return { table, nowhere }
}
