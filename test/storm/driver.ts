/**
 * The storm itself, run inside a machine of its own: `driver.ts JSON`. Many calls at once for many pods, some of them killed, some of them wrong, the agent
 * killed and started again in between; then everything is deleted, and what is there is compared with what was. Prints a report as JSON.
 */

import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

import { isObject, type JsonObject } from '#cni/json.ts'
import { registry } from '#plugins/registry.ts'
import { difference } from '../plugins/network-host.ts'
import { StormAgent } from './agent.ts'
import { call, type Outcome, type Verb } from './call.ts'
import { everything } from './everything.ts'
import { HeldAddresses } from './held.ts'
import { Random } from './random.ts'

export interface Order {
  readonly seed: number
  /** ADDs, DELs and CHECKs of whole chains. */
  readonly steps: number
  readonly pods: number
  readonly atOnce: number
}

export interface Report {
  /** How often each verb ended in which way. */
  readonly outcomes: Readonly<Record<string, number>>
  readonly given: number
  readonly agentKills: number
  readonly milliseconds: number
  /** What must never happen. */
  readonly violations: readonly string[]
  /** What is there afterwards and was not before (+), and the other way round (-). */
  readonly left: readonly string[]
}

const projectRoot = join(import.meta.dirname, '..', '..')
const pluginDir = join(projectRoot, 'dist', 'cni')
const NETWORK = 'storm'
const MAX_VIOLATIONS = 20

/** Chances of a call: to be killed, to be for a pod that another call is at work on, to be what a runtime does only after a crash. */
const KILLED = 0.12
const BUSY_POD = 0.05
const OUT_OF_ORDER = 0.15
/** A killed call lives at most so long; the whole of an ADD takes a few of these where an agent answers, and many where none does. */
const LIFE_MS = 40
/** One of so many calls has the agent killed, or collects garbage. */
const AGENT_KILL_EVERY = 30
const GC_EVERY = 25

type Conf = JsonObject & { readonly type: string }

interface Pod {
  readonly name: string
  readonly netns: string
  readonly hostPort: number
  state: 'none' | 'attached' | 'unknown'
  /** Calls at work on it. */
  busy: number
  result: JsonObject | undefined
}

const order: Order = JSON.parse(process.argv[2] ?? '{}')
const random = new Random(order.seed)
const held = new HeldAddresses()
const agent = new StormAgent(projectRoot)
const outcomes = new Map<string, number>()
const violations: string[] = []
let agentKills = 0

const violated = (what: string): void => {
  if (violations.length < MAX_VIOLATIONS) violations.push(what)
}

/** As flannel and CRI-O configure it, with what Heddle has of the usual chain. */
function chainOf(pod: Pod): readonly Conf[] {
  const common = { cniVersion: '1.1.0', name: NETWORK }
  const portMappings = [{ hostPort: pod.hostPort, containerPort: 8080, protocol: 'tcp' }]
  const chain: readonly Conf[] = [
    {
      ...common,
      type: 'bridge',
      bridge: 'cni0',
      isDefaultGateway: true,
      ipMasq: true,
      macspoofchk: true,
      ipam: { type: 'host-local', ranges: [[{ subnet: '10.99.0.0/25' }], [{ subnet: 'fd00:99::/120' }]] },
    },
    { ...common, type: 'tuning', sysctl: { 'net.core.somaxconn': '512' } },
    { ...common, type: 'portmap', snat: true, runtimeConfig: { portMappings } },
    { ...common, type: 'bandwidth', ingressRate: 1e9, ingressBurst: 1e9 },
    { ...common, type: 'firewall' },
  ]
  return chain.filter(({ type }) => registry.has(type))
}

const start = (pod: Pod, verb: Verb, conf: Conf, killAfter?: number): Promise<Outcome> =>
  call({ verb, pluginDir, config: conf, containerId: pod.name, netns: pod.netns, ifname: 'eth0', killAfter })

const killTime = (): number | undefined => (random.chance(KILLED) ? random.below(LIFE_MS) : undefined)

function count(verb: string, outcome: Outcome): void {
  const how = outcome.kind === 'refused' ? `refused with ${outcome.code}` : outcome.kind
  outcomes.set(`${verb} ${how}`, (outcomes.get(`${verb} ${how}`) ?? 0) + 1)
  if (outcome.kind === 'broken') violated(outcome.message)
  // 999 is what nobody thought of.
  if (outcome.kind === 'refused' && outcome.code === 999) violated(`${verb}: ${outcome.message}`)
}

async function add(pod: Pod, mayDie = true): Promise<void> {
  const before = pod.state
  const alone = pod.busy === 1
  let prevResult: JsonObject | undefined
  for (const conf of chainOf(pod)) {
    const config = prevResult === undefined ? conf : { ...conf, prevResult }
    const outcome = await start(pod, 'ADD', config, mayDie ? killTime() : undefined)
    count('ADD', outcome)
    if (outcome.kind !== 'done') {
      // A second ADD is refused by the first plugin, and leaves the pod as it is.
      if (before !== 'attached' || !alone || prevResult !== undefined) pod.state = 'unknown'
      return
    }
    if (prevResult === undefined) {
      if (before === 'attached' && alone && pod.busy === 1) violated(`a second ADD of ${pod.name} was served`)
      held.answered(pod.name, addressesOf(outcome.answer))
    }
    prevResult = outcome.answer
  }
  if (before === 'none' && alone && pod.busy === 1) {
    pod.state = 'attached'
    pod.result = prevResult
  } else pod.state = 'unknown'
}

const addressesOf = (answer: JsonObject | undefined): readonly string[] => {
  const ips = answer?.['ips']
  return Array.isArray(ips) ? ips.filter(isObject).map(({ address }) => JSON.stringify(address)) : []
}

/** Every plugin is asked, whatever the one before it said, as libcni does not but runtimes in the end do. True when all were done. */
async function del(pod: Pod, mayDie = true): Promise<boolean> {
  held.released(pod.name)
  const { result } = pod
  const alone = pod.busy === 1
  const [withResult, withNetns] = [random.chance(0.5), random.chance(0.8)]
  pod.state = 'unknown'
  let complete = true
  for (const conf of chainOf(pod).toReversed()) {
    const config = withResult && result !== undefined ? { ...conf, prevResult: result } : conf
    const at = withNetns ? pod : { ...pod, netns: '' }
    const outcome = await start(at, 'DEL', config, mayDie ? killTime() : undefined)
    count('DEL', outcome)
    if (outcome.kind !== 'done') complete = false
  }
  if (complete && alone && pod.busy === 1) {
    pod.state = 'none'
    pod.result = undefined
  }
  return complete
}

async function check(pod: Pod): Promise<void> {
  const { result } = pod
  if (result === undefined) return
  for (const conf of chainOf(pod)) {
    const outcome = await start(pod, 'CHECK', { ...conf, prevResult: result })
    count('CHECK', outcome)
    // Unless somebody else was at work on it meanwhile.
    if (outcome.kind === 'refused' && pod.state === 'attached' && pod.busy === 1)
      violated(`CHECK of ${pod.name} by ${conf.type}: ${outcome.message}`)
  }
}

/** What a runtime would do next with a pod, or sometimes what it would not. */
async function act(pod: Pod): Promise<void> {
  const odd = random.chance(OUT_OF_ORDER)
  switch (pod.state) {
    case 'none':
      // DEL before ADD, and DEL twice.
      return odd ? void (await del(pod)) : add(pod)
    case 'attached':
      if (random.chance(0.2)) return check(pod)
      return odd ? add(pod) : void (await del(pod))
    case 'unknown':
      return odd ? add(pod) : void (await del(pod))
  }
}

/** Collects while no other call is at work, as the specification asks of a runtime. */
async function collect(pods: readonly Pod[]): Promise<void> {
  const kept = pods.filter(({ state }) => state === 'attached')
  const valid = kept.map(({ name }) => ({ containerID: name, ifname: 'eth0' }))
  for (const pod of pods) if (!kept.includes(pod)) held.released(pod.name)
  const [any] = pods
  if (any === undefined) return
  for (const conf of chainOf(any)) {
    const { runtimeConfig: _, ...network } = conf
    const config = { ...network, type: conf.type, 'cni.dev/valid-attachments': valid }
    count('GC', await start(any, 'GC', config, killTime()))
  }
}

async function storm(pods: readonly Pod[]): Promise<void> {
  const working = new Set<Promise<void>>()
  let restart: Promise<void> | undefined
  for (let n = 1; n <= order.steps; n++) {
    // Not towards the end: what a DEL left, a GC would hide.
    if (n % GC_EVERY === 0 && n <= order.steps / 2) {
      await Promise.all(working)
      await collect(pods)
    }
    if (n % AGENT_KILL_EVERY === 0 && restart === undefined) {
      agentKills++
      await agent.kill('SIGKILL')
      restart = sleep(random.below(500))
        .then(() => agent.start())
        .then(() => void (restart = undefined))
    }
    const free = pods.filter(({ busy }) => busy === 0)
    const from = free.length === 0 || random.chance(BUSY_POD) ? pods : free
    const pod = from[random.below(from.length)]
    if (pod === undefined) throw new Error('a storm needs pods')
    pod.busy++
    const work = act(pod).finally(() => {
      pod.busy--
      working.delete(work)
    })
    working.add(work)
    if (working.size >= order.atOnce) await Promise.race(working)
  }
  await Promise.all(working)
  await restart
}

/** Until every plugin has said that it is done, as a runtime goes on asking. */
async function clear(pod: Pod): Promise<void> {
  for (let attempt = 0; attempt < 5; attempt++) if (await del(pod, false)) return
  violated(`DEL of ${pod.name} does not succeed, however often it is asked`)
}

async function main(): Promise<Report> {
  const pods = Array.from({ length: order.pods }, (_, i): Pod => {
    const name = `pod-${i}`
    execFileSync('ip', ['netns', 'add', name])
    return { name, netns: `/run/netns/${name}`, hostPort: 20_000 + i, state: 'none', busy: 0, result: undefined }
  })
  // The bridge and the tables stay after the last pod by design, so one was there before.
  const [first] = pods
  if (first === undefined) throw new Error('a storm needs pods')
  await agent.start()
  first.busy++
  await add(first, false)
  await clear(first)
  first.busy--
  if (violations.length > 0) throw new Error(`the first pod: ${violations.join('; ')}`)
  await agent.kill('SIGTERM')
  const before = everything()

  const started = performance.now()
  await agent.start()
  await storm(pods)
  const milliseconds = performance.now() - started
  await Promise.all(
    pods.map(async (pod) => {
      pod.busy++
      await clear(pod)
      pod.busy--
    }),
  )
  await agent.kill('SIGTERM')
  let left = difference(before, everything())
  // What processes that were killed held goes with them, a little later.
  for (let attempt = 0; attempt < 50 && left.length > 0; attempt++) {
    await sleep(100)
    left = difference(before, everything())
  }
  return {
    outcomes: Object.fromEntries([...outcomes].toSorted(([a], [b]) => (a < b ? -1 : 1))),
    given: held.given,
    agentKills,
    milliseconds: Math.round(milliseconds),
    violations: [...held.violations, ...violations],
    left,
  }
}

process.stdout.write(JSON.stringify(await main()))
