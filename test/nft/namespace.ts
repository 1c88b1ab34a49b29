/** Namespaces for the tests of nftables: unique names, gone afterwards. */

import { execFileSync, spawnSync } from 'node:child_process'
import { createNetns, deleteNetns } from '#sys/netns.ts'

let count = 0

export class NftNetns implements Disposable {
  readonly path: string

  constructor() {
    this.path = `/run/netns/nft-${process.pid}-${++count}`
    createNetns(this.path)
  }

  /** What a program prints when it runs here. */
  run(program: string, args: readonly string[], input = ''): string {
    return execFileSync('nsenter', [`--net=${this.path}`, program, ...args], {
      encoding: 'utf8',
      input,
      maxBuffer: 1 << 26,
    })
  }

  nft(...args: readonly string[]): string {
    return this.run('nft', args)
  }

  /** The objects of `nft -j list ruleset`, by kind. */
  json(kind: string): Record<string, unknown>[] {
    const { nftables } = JSON.parse(this.nft('-j', 'list', 'ruleset')) as {
      nftables: Record<string, Record<string, unknown>>[]
    }
    return nftables.map((object) => object[kind]).filter((object) => object !== undefined)
  }

  [Symbol.dispose](): void {
    deleteNetns(this.path)
  }
}

/** Why the tests are skipped, or false. */
export const needsNft =
  process.getuid?.() !== 0
    ? 'needs root: makes network namespaces'
    : spawnSync('nft', ['--version']).status !== 0
      ? 'needs the program nft: apt-get install nftables'
      : false
