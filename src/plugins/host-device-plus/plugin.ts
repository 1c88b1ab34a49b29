/**
 * The plugin host-device-plus: a card of its own for each pod. Neutron makes the port, Nova attaches it to the node's server, the kernel tells of the new
 * device, and it moves into the pod. With a pool the first two have happened before.
 */

import { invalidConfig, joinErrors, limitedConnectivity, messageOf, unavailable } from '#cni/errors.ts'
import { netnsIdentity } from '#cni/netns.ts'
import type { GcInput, Plugin, PluginHost, PluginInput } from '#cni/plugin.ts'
import type { Result, RouteConfig } from '#cni/result.ts'
import { isEmptyDns } from '#cni/config.ts'
import { specVersions } from '#cni/version.ts'
import { checkFailed } from '#ipam/check-failed.ts'
import { cidrText, familyOf } from '#ip/prefix.ts'
import type { MacText } from '#ip/text.ts'
import { bootId } from '#sys/bootid.ts'
import { checkInterface, configureInterface, defaultGateways } from '../link/configure.ts'
import { masterOf } from '../link/master.ts'
import { requestedMac } from '../link/mac.ts'
import { openPod } from '../link/pod.ts'
import { refuseTakenName } from '../link/pod-link.ts'
import { undoing } from '../link/undo.ts'
import { Book, bookFolder } from './book.ts'
import { isIdle, type Card, type CardPort } from './card.ts'
import { cloudOf } from './cloud.ts'
import { nicConf, type NicConf } from './config.ts'
import { hasMac, moveIn } from './device.ts'
import { Engine, type EngineOptions, type NicHost } from './engine.ts'
import { kickKeeper } from './kick.ts'
import { runRound } from './round.ts'
import { rememberScope } from './scope.ts'

const TYPE = 'host-device-plus'

export type NicPluginOptions = Pick<EngineOptions, 'clock' | 'random' | 'settleMs'>

export const hostDevicePlusPlugin = (options: NicPluginOptions = {}): Plugin => ({
  type: TYPE,
  versions: specVersions,
  add: (input, host) => add(input, host, options),
  del: (input, host) => del(input, host, options),
  check,
  status: (input, host) => status(input, host, options),
  gc: (input, host) => gc(input, host, options),
})

export const hostDevicePlus: Plugin = hostDevicePlusPlugin()

/** Nothing is asked before it has to be. */
export const engineOf = (conf: NicConf, host: NicHost, options: NicPluginOptions = {}): Engine =>
  new Engine({
    ...options,
    conf,
    host,
    book: new Book(host.root, host),
    cloud: () => cloudOf(conf, options),
    home: (cloud) => cloud.home(conf, () => macOf(conf, host)),
  })

/** Of the link that the node's own address is on. */
const macOf = ({ hostInterface, what }: NicConf, host: NicHost): MacText | undefined => {
  const link = masterOf(host.netlink, hostInterface, what, 'the host')
  return link.permanentMac ?? link.mac
}

const confOf = ({ config }: PluginInput): NicConf => nicConf(config.name, config.raw)

async function add(input: PluginInput, host: PluginHost, options: NicPluginOptions): Promise<Result> {
  const conf = confOf(input)
  if (requestedMac(input) !== undefined)
    throw invalidConfig(`${conf.what}: a MAC address is asked for`, 'a card has that of its Neutron port: leave it out')
  using pod = openPod(input.netns)
  return await undoing(host, async (undo) => {
    refuseTakenName({ input, pod })
    rememberScope(host, input.config)
    const { containerId, ifname } = input
    const engine = engineOf(conf, host, options)
    // Of an ADD for the same attachment that was killed.
    await giveBack(input, host, options)
    const netnsId = netnsIdentity(input.netns) ?? ''
    const holder = { containerId, ifname, netns: pod.path, netnsId, boot: bootId() }
    // The card's lock is let go before anything is undone.
    const before = new Set(cardsOf(input, host).map(({ id }) => id))
    undo.add('card', () => giveBack(input, host, options, before))
    using held = await engine.acquire(holder)
    host.failpoint('host-device-plus.acquired')
    kickKeeper(host.root)
    const { card, link } = held
    const { port } = card
    if (port === undefined) throw invalidConfig(`card ${card.id} has no port`, 'run DEL and ADD')
    const mtu = conf.mtu === 0 ? port.mtu : conf.mtu
    await moveIn(host, pod, link, card, mtu, ifname)
    const { ips, routes } = addressing(port, conf)
    // Neutron gives an address to one port only: there is nothing to detect.
    const made = await configureInterface(pod, ifname, ips, routes, { enableDad: false })
    host.failpoint('host-device-plus.configured')
    const { dns } = input.config
    const nameservers = isEmptyDns(dns) && port.nameservers.length > 0 ? { nameservers: port.nameservers } : dns
    return {
      interfaces: [{ name: ifname, mac: made.mac ?? port.mac, mtu: made.mtu, sandbox: pod.path }],
      ips,
      routes,
      dns: nameservers,
    }
  })
}

/** Those of the port, with the default routes and those of its subnets. */
function addressing({ ips: own, routes }: CardPort, { isDefaultGateway }: NicConf): Pick<Result, 'ips' | 'routes'> {
  const ips = own.map((ip) => ({ ...ip, interface: 0 }))
  const defaults = [...defaultGateways(ips)].map(([family, gw]): RouteConfig => ({
    dst: cidrText(family === 4 ? '0.0.0.0/0' : '::/0'),
    gw,
  }))
  const has = (family: 4 | 6): boolean => ips.some(({ address }) => familyOf(address) === family)
  return {
    ips,
    routes: [...(isDefaultGateway ? defaults : []), ...routes.filter(({ dst }) => has(familyOf(dst)))],
  }
}

const cardsOf = (input: PluginInput, host: PluginHost): readonly Card[] =>
  new Book(host.root, host).of(input.config.name, input)

/** Needs no cloud: what one has to be asked for is done beside, or is tried now, and goes on later where it fails. */
async function del(input: PluginInput, host: PluginHost, options: NicPluginOptions): Promise<void> {
  await giveBack(input, host, options)
}

async function giveBack(
  input: PluginInput,
  host: PluginHost,
  options: NicPluginOptions,
  except: ReadonlySet<string> = new Set(),
): Promise<void> {
  const cards = cardsOf(input, host).filter(({ id }) => !except.has(id))
  if (cards.length > 0) await release(cards, confOf(input), host, options)
}

async function release(
  cards: readonly Card[],
  conf: NicConf,
  host: PluginHost,
  options: NicPluginOptions,
): Promise<void> {
  const engine = engineOf(conf, host, options)
  const errors: unknown[] = []
  for (const { id } of cards) {
    try {
      await engine.release(id)
    } catch (error) {
      errors.push(error)
    }
  }
  if (!kickKeeper(host.root)) await finish(engine, cards, host)
  const joined = joinErrors(errors)
  if (joined !== undefined) throw joined
}

/** Where no keeper does it. The pod is gone; a cloud that does not answer must not keep it. */
async function finish(engine: Engine, cards: readonly Card[], host: PluginHost): Promise<void> {
  for (const { id } of cards) {
    try {
      await engine.finish(id)
    } catch (error) {
      host.log('warn', `card ${id} is off its pod and still on the server; the next call goes on`, {
        error: messageOf(error),
      })
    }
  }
}

async function check(input: PluginInput, host: PluginHost): Promise<void> {
  confOf(input)
  const { prevResult } = input
  if (prevResult === undefined) throw invalidConfig('CHECK needs the previous result', 'the runtime passes prevResult')
  const [card] = cardsOf(input, host)
  if (card?.port === undefined)
    throw checkFailed(`${input.ifname} of container ${input.containerId} is in no record of ${bookFolder(host.root)}`)
  if (card.lost !== undefined) throw checkFailed(`the card of ${input.ifname} is lost: ${card.lost}`)
  using pod = openPod(input.netns)
  const link = checkInterface(pod, prevResult, input.ifname)
  if (!hasMac(link, card.port.mac))
    throw checkFailed(`${input.ifname} in ${pod.path} has MAC address ${link.mac}, and its port ${card.port.mac}`)
}

/** What STATUS found last, by root and configuration: runtimes ask every few seconds. */
const found = new Map<string, { readonly until: number; readonly error: Error | undefined }>()
const STATUS_MS = 10_000
const MOST_FOUND = 64

async function status(input: PluginInput, host: PluginHost, options: NicPluginOptions): Promise<void> {
  const conf = confOf(input)
  rememberScope(host, input.config)
  kickKeeper(host.root)
  const cards = new Book(host.root, host).list().filter(({ network }) => network === conf.network)
  const lost = cards.find(({ lost, holder }) => lost !== undefined && holder !== undefined)
  if (lost !== undefined)
    throw limitedConnectivity(
      `container ${lost.holder?.containerId} has lost its card: ${lost.lost}`,
      'delete the pod: it gets another one',
    )
  if (cards.some(isIdle)) return
  const key = JSON.stringify([host.root, input.config.raw])
  let known = found.get(key)
  if (known === undefined || known.until <= performance.now()) {
    if (found.size >= MOST_FOUND) found.clear()
    known = { error: await trouble(conf, host, options), until: performance.now() + STATUS_MS }
    found.set(key, known)
  }
  if (known.error !== undefined) throw known.error
}

/** Why no card can be made now. */
async function trouble(conf: NicConf, host: PluginHost, options: NicPluginOptions): Promise<Error | undefined> {
  try {
    const { room, portRoom } = await engineOf(conf, host, options).places()
    if (room === 0)
      return unavailable(
        `the node has no place for another card: its limit is ${conf.deviceLimit}`,
        'pods on other nodes are not affected; raise nova.deviceLimit if the server has more PCI slots',
      )
    if (portRoom === 0)
      return unavailable(
        'the project has reached its quota of ports',
        'openstack quota set --ports, or delete unused ones',
      )
    return undefined
  } catch (error) {
    return unavailable(`${conf.what}: no card can be made`, messageOf(error), { cause: error })
  }
}

async function gc(input: GcInput, host: PluginHost, options: NicPluginOptions): Promise<void> {
  const conf = confOf(input)
  const keep = new Set(input.validAttachments.map(({ containerId, ifname }) => `${containerId}:${ifname}`))
  const stale = new Book(host.root, host)
    .list()
    .filter(
      ({ network, holder }) =>
        network === conf.network && holder !== undefined && !keep.has(`${holder.containerId}:${holder.ifname}`),
    )
  await release(stale, conf, host, options)
  if (kickKeeper(host.root)) return
  // What earlier calls could not finish. Without any such the cloud is not asked.
  try {
    const { error } = await runRound(engineOf(conf, host, options), { isFull: false, isFilling: false })
    if (error !== undefined) throw error
  } catch (error) {
    host.log('warn', 'cards that are on their way out are still there; the next call goes on', {
      error: messageOf(error),
    })
  }
}
