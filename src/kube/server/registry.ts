import { BUILTIN } from './builtin.ts'
import type { ResourceType } from './resource.ts'

/** A group with its served versions, the preferred one first. */
export interface Group {
  readonly name: string
  readonly versions: readonly string[]
}

/** `v1` before `v1beta2` before `v1alpha1` before anything else, newer first (Kubernetes version priority). */
export function compareVersions(a: string, b: string): number {
  const parse = (version: string): readonly [number, number, number] => {
    const match = /^v(\d+)(?:(alpha|beta)(\d+))?$/.exec(version)
    if (match === null) return [-1, 0, 0]
    return [match[2] === undefined ? 2 : match[2] === 'beta' ? 1 : 0, Number(match[1]), Number(match[3] ?? 0)]
  }
  const [left, right] = [parse(a), parse(b)]
  for (const index of [0, 1, 2] as const) if (left[index] !== right[index]) return right[index] - left[index]
  return a < b ? -1 : a > b ? 1 : 0
}

/** Which kinds are served: the built-in ones, and those of CustomResourceDefinitions as they come and go. */
export class Registry {
  readonly #builtin: readonly ResourceType[] = BUILTIN
  readonly #custom = new Map<string, readonly ResourceType[]>()

  /** All served types, built-in ones first. */
  all(): readonly ResourceType[] {
    return [...this.#builtin, ...[...this.#custom.values()].flat()]
  }

  /** The type behind a path. */
  find(group: string, version: string, plural: string): ResourceType | undefined {
    return this.all().find((type) => type.group === group && type.version === version && type.plural === plural)
  }

  /** The types whose objects lie in namespaces, one per shelf. */
  namespaced(): readonly ResourceType[] {
    const seen = new Set<string>()
    return this.all().filter((type) => {
      if (!type.namespaced || seen.has(type.shelf)) return false
      seen.add(type.shelf)
      return true
    })
  }

  /** Serves the versions of a CustomResourceDefinition (by its name); an empty list ends that. */
  define(crd: string, types: readonly ResourceType[]): void {
    if (types.length === 0) this.#custom.delete(crd)
    else this.#custom.set(crd, types)
  }

  /** The named groups (not the core group). */
  groups(): readonly Group[] {
    const versions = new Map<string, Set<string>>()
    for (const type of this.all()) {
      if (type.group === '') continue
      const known = versions.get(type.group) ?? new Set<string>()
      known.add(type.version)
      versions.set(type.group, known)
    }
    return [...versions].map(([name, set]) => ({ name, versions: [...set].toSorted(compareVersions) }))
  }

  /** The types of one group version. */
  of(group: string, version: string): readonly ResourceType[] {
    return this.all().filter((type) => type.group === group && type.version === version)
  }
}
