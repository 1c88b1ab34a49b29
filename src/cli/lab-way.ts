/** Prints a packet's way: every kernel entry in its command's own notation, with a sentence on what it decides. */

import { commandName } from '#lab/program.ts'
import { LabError } from '#lab/error.ts'
import type { LabView, PodView } from '#lab/check/view.ts'
import { walkOnce } from '#lab/check/walk-once.ts'
import { observeLab, requireNamespaces } from '#lab/observe.ts'
import { planLab } from '#lab/plan.ts'
import { requireRecord } from '#lab/record.ts'
import { readWay, shownPair, type Entry, type Way } from '#lab/way.ts'
import { messagesIn, currentLanguage, say } from './language.ts'
import type { MessageKey } from './messages/en.ts'
import { print } from './lab-text.ts'
import { style } from './style.ts'
import { widthOf } from './width.ts'

/** Pure: the lines of the page. `title` is the key of the heading. */
export function wayLines(way: Way, title: 'lab.way.title' | 'lab.way.back' = 'lab.way.title'): string[] {
  const names = { from: way.from.name, to: way.to.name, source: way.source, destination: way.destination }
  const lines = [style('heading', say(title, names))]
  for (const [i, stop] of way.stops.entries()) {
    if (i === way.stops.length - 1) lines.push('', `  ${style('name', wireText(way))}`)
    lines.push('', `  ${style('heading', say('lab.way.in', { place: stop.place }))}`)
    for (const entry of stop.entries) lines.push(...entryLines(entry))
  }
  return lines
}

/** Only the entries of the sending node, without sentences: what one compares with the other side. */
export function otherSideLines(way: Way): string[] {
  const [, node] = way.stops
  if (node === undefined) return []
  const values = { place: node.place, to: way.to.name, destination: way.destination }
  return [
    style('heading', say('lab.way.otherSide', values)),
    ...node.entries.flatMap(({ command, line }) => [
      `    ${style('dim', `$ ${command}`)}`,
      `    ${line ?? style('bad', say('lab.way.none'))}`,
    ]),
  ]
}

function wireText({ outer, source, destination }: Way): string {
  if (outer === undefined) return say('lab.way.plainWire', { source, destination })
  const { port = 0, vni = 0 } = outer
  const ends = { outerSource: outer.source, outerDestination: outer.destination, source, destination }
  switch (outer.protocol) {
    case 'vxlan':
      return say('lab.way.outer', { ...ends, port, vni })
    case 'ipip':
      return say('lab.way.outerIpip', ends)
    case 'udp':
      return say('lab.way.outerUdp', { ...ends, port })
    case 'wireguard':
      return say('lab.way.outerWireguard', { ...ends, port })
    default:
      return outer.protocol satisfies never
  }
}

function entryLines({ meaning, command, line, values }: Entry): string[] {
  return [
    `    ${style('dim', `$ ${command}`)}`,
    `    ${line ?? style('bad', say('lab.way.none'))}`,
    ...wrap(sentence(`lab.way.${meaning}`, values), 100).map((text) => `        ${style('dim', text)}`),
  ]
}

/** The sentence of an entry; which placeholders it has depends on the meaning, so they are filled here and not by type. */
function sentence(key: MessageKey & `lab.way.${string}`, values: Readonly<Record<string, string>>): string {
  const text = messagesIn(currentLanguage())
  const message: string = Reflect.apply(text, undefined, [key, values])
  return message
}

/** Breaks at spaces, and between Chinese characters, which have none. */
export function wrap(text: string, width: number): string[] {
  const lines: string[] = []
  let line = ''
  for (const word of text.split(/(?<= )|(?<=[，。；、：])/u)) {
    if (line !== '' && widthOf(line) + widthOf(word.trimEnd()) > width) {
      lines.push(line.trimEnd())
      line = ''
    }
    line += word
  }
  if (line.trim() !== '') lines.push(line.trimEnd())
  return lines
}

export const printWay = (way: Way, title?: 'lab.way.title' | 'lab.way.back'): void => print(...wayLines(way, title))

/** `heddle lab way [FROM TO]`: both directions. */
export async function runWay(
  name: string,
  from: string | undefined,
  to: string | undefined,
  { family, json }: { readonly family: 4 | 6; readonly json: boolean },
): Promise<void> {
  const { record } = requireRecord(name)
  const plan = planLab(record.spec)
  if (plan.cloud !== undefined) {
    const remedy = `Ask the kernels: ${commandName} lab exec ${plan.nodes[0]?.name} -- ip route get ADDRESS`
    throw new LabError('bad-spec', say('lab.way.cloud'), remedy)
  }
  requireNamespaces(plan)
  const view = observeLab(plan)
  const pair = from === undefined && to === undefined ? shownPair(view) : [podNamed(view, from), podNamed(view, to)]
  const [a, b] = pair ?? []
  if (a === undefined || b === undefined) {
    print(say('lab.way.oneNode'))
    return
  }
  await walkOnce(a, b, family)
  const ways = [readWay(view, a, b, family), readWay(view, b, a, family)] as const
  if (json) {
    print(JSON.stringify(ways, undefined, 2))
    return
  }
  printWay(ways[0])
  print('')
  printWay(ways[1], 'lab.way.back')
}

function podNamed(view: LabView, name: string | undefined): PodView {
  const pods = view.nodes.flatMap((node) => node.pods)
  const pod = pods.find((pod) => pod.name === name)
  if (pod !== undefined) return pod
  throw new LabError(
    'not-found',
    name === undefined ? 'the way needs two pods' : `the lab has no pod ${JSON.stringify(name)}`,
    `Name two of ${pods[0]?.name ?? 'none'} to ${pods.at(-1)?.name ?? 'none'}, or none at all.`,
  )
}
