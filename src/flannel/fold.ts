/** Objects whose keys mean the same in any case, as Go's encoding/json reads them. */

export interface Folded {
  /** Values by lower-case key; of two spellings the later one counts, as in Go. */
  readonly values: ReadonlyMap<string, unknown>
  /** The spelling that was written, for messages. */
  readonly written: ReadonlyMap<string, string>
}

/** Undefined for anything that is no JSON object. A null counts as absent, as in Go. */
export function foldKeys(value: unknown): Folded | undefined {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined
  const values = new Map<string, unknown>()
  const written = new Map<string, string>()
  for (const [key, field] of Object.entries(value)) {
    if (field === null) continue
    values.set(key.toLowerCase(), field)
    written.set(key.toLowerCase(), key)
  }
  return { values, written }
}
