/** All that calls could leave on the machine that this process runs on, as text. */

import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'

/** Files that stay by design: locks, and what remembers the last address. */
const STAYS = /\/(lock|last_reserved_ip\.\d+)$/
/** What the kernel enters by itself: groups that interfaces joined. */
const GROUPS = /^(33:33|01:00:5e):/

const run = (...command: readonly string[]): string => {
  const [program = '', ...args] = command
  return execFileSync(program, args, { encoding: 'utf8', timeout: 60_000, maxBuffer: 1 << 26 })
}

export function everything(): string {
  const parts = [
    ...['link', 'address', 'rule', 'neigh', 'nexthop'].map((object) => run('ip', '-o', object)),
    run('ip', 'route', 'show', 'table', 'all'),
    run('ip', '-6', 'route', 'show', 'table', 'all'),
    run('ip', '-6', 'rule'),
    run('bridge', 'fdb', 'show'),
    run('tc', 'qdisc', 'show'),
    run('nft', '-s', 'list', 'ruleset'),
    run('find', '/run', '/var/lib', '-type', 'f', '-o', '-type', 's', '-o', '-type', 'p', '-o', '-type', 'l'),
    // Numbers of inodes and processes are others each time.
    run('ss', '-H', '-a', '-x', '-t', '-u').replaceAll(/\d+/g, '#'),
    readFileSync('/proc/locks', 'utf8').replaceAll(/\d+/g, '#'),
    processes(),
    // The pods' namespaces.
    ...['link', 'address'].map((object) => run('ip', '-all', 'netns', 'exec', 'ip', '-o', object)),
  ]
  return parts
    .flatMap((part) => part.split('\n'))
    .filter((line) => !STAYS.test(line) && !GROUPS.test(line))
    .join('\n')
}

/** Command lines of all but this process and what it has just started. */
function processes(): string {
  const lines = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .map((pid) => {
      try {
        const parent = /^PPid:\s*(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]
        const state = /^State:\s*(\S)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]
        return `process ${state === 'Z' ? 'zombie ' : ''}${readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ')} of ${parent}`
      } catch {
        // It has ended meanwhile.
        return ''
      }
    })
  return lines.filter((line) => line !== '').join('\n')
}
