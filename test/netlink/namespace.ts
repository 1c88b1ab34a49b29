/** Namespaces for the tests of the native edge: unique names, gone afterwards. */

import { execFileSync } from 'node:child_process'
import { createNetns, deleteNetns } from '#sys/netns.ts'

let count = 0

/** A fresh network namespace; disposing it removes it. */
export class TestNetns implements Disposable {
  readonly name: string
  readonly path: string

  constructor() {
    this.name = `netlink-${process.pid}-${++count}`
    this.path = `/run/netns/${this.name}`
    createNetns(this.path)
  }

  /** What a program prints when it runs here. */
  run(program: string, ...args: readonly string[]): string {
    return execFileSync('nsenter', [`--net=${this.path}`, program, ...args], { encoding: 'utf8' })
  }

  /** `ip -j …` as data. */
  json(program: 'ip' | 'bridge', ...args: readonly string[]): Record<string, unknown>[] {
    const text = this.run(program, '-j', '-d', ...args)
    return text.trim() === '' ? [] : JSON.parse(text)
  }

  [Symbol.dispose](): void {
    deleteNetns(this.path)
  }
}

/** Why tests that need root are skipped, or false. */
export const needsRoot = process.getuid?.() === 0 ? false : 'needs root: makes network namespaces'
