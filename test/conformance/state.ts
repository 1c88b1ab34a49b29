/** Everything of a machine that an attachment could leave behind, as lines of text that can be compared. */

import { slowness } from '../slow.ts'
import { OWN_FOLDERS, type Machine } from './machine.ts'

/** How long the kernel may take to remove what went with a namespace. */
const SETTLE_MS = 3000 * slowness

const IP_BATCH =
  'link show\naddress show\nroute show table all\nrule show\nneighbour show nud permanent\nneighbour show proxy\n'
const IP6_BATCH = 'route show table all\nrule show\nneighbour show proxy\n'

type Lines = ReadonlySet<string>

/** What the kernel changes by itself: indices, carrier and what follows from it, address detection, learned entries, a bridge's inherited MAC. */
const normal = (line: string): string =>
  line
    .replace(/^\d+: /, '')
    .replace(/@if\d+/, '@')
    .replace(/<([A-Z_,-]*)>/, (_, flags: string) => (flags.split(',').includes('UP') ? 'up' : 'down'))
    .replace(/\b(state [A-Z]+|tentative|dadfailed|linkdown|link-netnsid \d+|link-netns \S+|dynamic|permanent)\b/g, '')
    .replace(/\\\s*link\/ether .*$/, '')
    .replace(/valid_lft \S+ preferred_lft \S+/, '')
    .replaceAll(/\s+/g, ' ')
    .trim()

const passing = /\bfe80:|\bff00::\/8|^\s*$|\bmulticast ff/

/**
 * Files that are no attachment's: locks and counters stay by design (host-local's format says so), and a program may keep its own house in order.
 * Only names count: what is in a shared file is judged by what the plugin answers.
 */
const sharedFile =
  /\/(lock|last_reserved_ip\.\d+)$|\.lock$|^\/run\/(netns|mount|xtables\.lock)|\.(sock|pid|log)(\.\d+)?$/

async function stateOf(machine: Machine): Promise<Lines> {
  const places: readonly (string | undefined)[] = [undefined, ...machine.pods]
  const lines = await Promise.all([filesOf(machine), ...places.map((pod) => networkOf(machine, pod))])
  return new Set(lines.flat())
}

async function filesOf(machine: Machine): Promise<readonly string[]> {
  const { stdout } = await machine.run(['find', ...OWN_FOLDERS, '-xdev', '-not', '-type', 'd'])
  return stdout.split('\n').filter((path) => path !== '' && !sharedFile.test(path))
}

async function networkOf(machine: Machine, pod: string | undefined): Promise<readonly string[]> {
  const where = pod === undefined ? '' : `${pod}: `
  const [ip, ip6, tc, nft] = await Promise.all([
    machine.run(['ip', '-o', '-batch', '-'], IP_BATCH, pod),
    machine.run(['ip', '-o', '-6', '-batch', '-'], IP6_BATCH, pod),
    machine.run(['tc', 'qdisc', 'show'], '', pod),
    machine.run(['nft', '-s', 'list', 'ruleset'], '', pod),
  ])
  const lines = [ip.stdout, ip6.stdout, tc.stdout]
    .join('\n')
    .split('\n')
    .filter((line) => !passing.test(line))
    .map((line) => `${where}${normal(line)}`)
  return [...lines, ...ruleLines(nft.stdout).map((line) => `${where}${line}`)]
}

/** Each line of a ruleset with the table and chain it is in. */
function ruleLines(text: string): readonly string[] {
  const path: string[] = []
  const lines: string[] = []
  for (const raw of text.split('\n')) {
    const line = raw.trim()
    if (line === '' || line.startsWith('#')) continue
    if (line === '}') path.pop()
    else {
      lines.push([...path, line].join(' / '))
      if (line.endsWith('{')) path.push(line.replace(/ \{$/, ''))
    }
  }
  return lines
}

/** Lines that only one of two states has, marked with - and +. */
const difference = (before: Lines, after: Lines): readonly string[] => [
  ...[...before].filter((line) => !after.has(line)).map((line) => `- ${line}`),
  ...[...after].filter((line) => !before.has(line)).map((line) => `+ ${line}`),
]

/** A machine's state at one time, to be compared with later. */
export class Baseline {
  readonly #machine: Machine
  readonly #lines: Lines

  private constructor(machine: Machine, lines: Lines) {
    this.#machine = machine
    this.#lines = lines
  }

  static async of(machine: Machine): Promise<Baseline> {
    return new Baseline(machine, await stateOf(machine))
  }

  /** What is different now and stays so; empty when the machine is as it was. */
  async changes(settleMs = SETTLE_MS): Promise<readonly string[]> {
    const deadline = Date.now() + settleMs
    for (;;) {
      const found = difference(this.#lines, await stateOf(this.#machine))
      if (found.length === 0 || Date.now() > deadline) return found
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
  }
}
