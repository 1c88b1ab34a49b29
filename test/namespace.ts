/** Network namespaces for tests: unique names, gone afterwards. */

import { execFileSync, spawnSync } from 'node:child_process'
import { createNetns, deleteNetns } from '#sys/netns.ts'

let count = 0

type Shown = Record<string, unknown>

/** A fresh network namespace; disposing it removes it. */
export class TestNetns implements Disposable {
  readonly name: string
  readonly path: string

  /** @param prefix begins its name, so that one sees which test left it: the test's area */
  constructor(prefix: string) {
    this.name = `${prefix}-${process.pid}-${++count}`
    this.path = `/run/netns/${this.name}`
    createNetns(this.path)
  }

  /** What a program prints when it runs here. */
  run(program: string, ...args: readonly string[]): string {
    return this.feed('', program, ...args)
  }

  /** Like `run`, with something on standard input. */
  feed(input: string, program: string, ...args: readonly string[]): string {
    return execFileSync('nsenter', [`--net=${this.path}`, program, ...args], {
      encoding: 'utf8',
      input,
      maxBuffer: 1 << 26,
      timeout: 120_000,
    })
  }

  /** `ip -j -d …` as data. */
  json(program: 'ip' | 'bridge', ...args: readonly string[]): Shown[] {
    const text = this.run(program, '-j', '-d', ...args)
    return text.trim() === '' ? [] : (JSON.parse(text) as Shown[])
  }

  nft(...args: readonly string[]): string {
    return this.run('nft', ...args)
  }

  /** The objects of a kind (`rule`, `set`, …) that `nft -j list ruleset` shows. */
  ruleset(kind: string): Shown[] {
    const { nftables } = JSON.parse(this.nft('-j', 'list', 'ruleset')) as { nftables: Record<string, Shown>[] }
    return nftables.map((object) => object[kind]).filter((object) => object !== undefined)
  }

  [Symbol.dispose](): void {
    deleteNetns(this.path)
  }
}

/** Why tests that need root are skipped, or false. */
export const needsRoot = process.getuid?.() === 0 ? false : 'needs root: makes network namespaces'

/** Why tests that need root and a program are skipped, or false. */
export function needsProgram(program: string, debianPackage: string): string | false {
  if (needsRoot !== false) return needsRoot
  const { error } = spawnSync(program, ['--version'])
  return error === undefined ? false : `needs the program ${program}: apt-get install ${debianPackage}`
}
