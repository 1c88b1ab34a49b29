/** `heddle lab up` and `down`: what they say while they work. */

import { MEMBER_CLOUD } from '#lab/cloud/clouds-yaml.ts'
import { GUARD } from '#lab/cloud/guard.ts'
import { cloudPaths } from '#lab/cloud/state.ts'
import { observeLab } from '#lab/observe.ts'
import { labDown } from '#lab/down.ts'
import { familiesOf, labSpec, type LabSpec } from '#lab/spec.ts'
import { commandName } from '#lab/program.ts'
import { isRootless } from '#lab/rootless.ts'
import { labUp } from '#lab/up.ts'
import { readWay, shownBeyondRouter, shownPair } from '#lab/way.ts'
import { walkOnce } from '#lab/check/walk-once.ts'
import type { Lab } from '#lab/control-plane.ts'
import { say } from './language.ts'
import { nameFlag, print, printStep, seconds } from './lab-text.ts'
import { otherSideLines, printWay } from './lab-way.ts'
import { style } from './style.ts'
import { widthOf } from './width.ts'

export interface UpFlags {
  readonly spec: Partial<LabSpec>
  readonly keep: boolean
  /** Seconds that agents and pods may take to get ready. */
  readonly timeout?: number | undefined
}

/** Makes the lab, then shows one packet's way there and back, and what to try. An interrupt removes what was made. */
export async function runUp({ spec: given, keep, timeout }: UpFlags): Promise<void> {
  const spec = labSpec(given)
  const start = performance.now()
  const families = familiesOf(spec)
    .map((family) => `IPv${family}`)
    .join(' + ')
  const counts = { name: spec.name, nodes: spec.nodes, pods: spec.podsPerNode }
  const begin =
    spec.cloud === undefined
      ? say('lab.up.begin', { ...counts, backend: spec.backend, topology: spec.topology, families })
      : say('lab.up.beginCloud', { ...counts, mode: spec.cloud.mode })
  print(style('heading', begin))
  const interrupt = new AbortController()
  const onSignal = (): void => interrupt.abort()
  process.once('SIGINT', onSignal).once('SIGTERM', onSignal)
  try {
    const patience = timeout === undefined ? {} : { timeoutMs: timeout * 1000 }
    const lab = await labUp(spec, { onStep: printStep, keep, ...patience, signal: interrupt.signal })
    print(style('good', say('lab.up.end', { seconds: seconds(performance.now() - start) })), '')
    if (lab.plan.cloud === undefined) {
      await printPair(lab)
      printTry(lab)
    } else printCloudTry(lab)
  } finally {
    process.off('SIGINT', onSignal).off('SIGTERM', onSignal)
  }
}

async function printPair({ plan }: Lab): Promise<void> {
  const view = observeLab(plan)
  const pair = shownPair(view)
  if (pair === undefined) {
    print(say('lab.way.oneNode'), '')
    return
  }
  const [from, to] = pair
  const [family = 4] = view.families
  await walkOnce(from, to, family)
  printWay(readWay(view, from, to, family))
  print('', ...otherSideLines(readWay(view, to, from, family)), '')
  const beyond = shownBeyondRouter(plan, view)
  if (beyond === undefined) return
  await walkOnce(from, beyond, family)
  print(style('heading', say('lab.way.acrossRouter', { to: beyond.name })))
  printWay(readWay(view, from, beyond, family))
  print('')
}

function printTry({ plan, record }: Lab): void {
  const flag = nameFlag(record.spec.name)
  const [from, to] = shownPair(observeLab(plan)) ?? []
  const node = plan.nodes[0]?.name ?? ''
  const rows: readonly (readonly [string, string])[] = [
    [`${commandName} lab status${flag}`, say('lab.try.status')],
    [`${commandName} lab check${flag}`, say('lab.try.check')],
    ...(from === undefined || to === undefined
      ? []
      : ([
          [`${commandName} lab exec${flag} ${from.name} -- ping -c 3 ${to.ips[0] ?? ''}`, say('lab.try.exec')],
          [`${commandName} lab way${flag} ${to.name} ${from.name}`, say('lab.try.way')],
          [
            `${commandName} lab exec${flag} ${node} -- ip route del ${plan.nodes[1]?.podCidrs[0] ?? ''}`,
            say('lab.try.break'),
          ],
        ] as const)),
    [
      isRootless()
        ? `${commandName} lab exec${flag} ${node} -- kubectl get nodes,pods -o wide`
        : `kubectl --kubeconfig $(${commandName} lab kubeconfig${flag}) get nodes,pods -o wide`,
      say('lab.try.kubectl'),
    ],
    [`${commandName} lab down${flag}`, say('lab.try.down')],
  ]
  printRows(rows)
}

function printCloudTry({ paths, record, plan }: Lab): void {
  const flag = nameFlag(record.spec.name)
  const lab = `${commandName} lab`
  const { cloudsYaml } = cloudPaths(paths.directory)
  printRows([
    [`${lab} status${flag}`, say('lab.try.status')],
    [`${lab} check${flag}`, say('lab.try.check')],
    [`${lab} exec${flag} ${plan.nodes[0]?.name} -- ip addr`, say('lab.try.exec')],
    [`${lab} exec${flag} router -- ip route`, say('lab.try.router')],
    [`${lab} exec${flag} fabric -- nft list table ${GUARD.family} ${GUARD.name}`, say('lab.try.guard')],
    [`OS_CLIENT_CONFIG_FILE=${cloudsYaml} OS_CLOUD=${MEMBER_CLOUD} openstack port list`, say('lab.try.openstack')],
    [`${lab} down${flag}`, say('lab.try.down')],
  ])
}

function printRows(rows: readonly (readonly [string, string])[]): void {
  const width = Math.max(...rows.map(([command]) => widthOf(command)))
  print(style('heading', say('lab.try.title')))
  for (const [command, text] of rows) {
    print(`  ${style('name', command)}${' '.repeat(width - widthOf(command))}   ${text}`)
  }
}

/** Removes the lab; nothing to remove is no failure. */
export async function runDown(name: string): Promise<void> {
  const there = await labDown(name, { onStep: printStep })
  print(there ? say('lab.down.end', { name }) : say('lab.down.none', { name }))
}
