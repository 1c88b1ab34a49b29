/** The plugin host-device: a network device of the host moves into the pod, and comes back. Contract: the reference plugin's configuration and result. */

import { invalidConfig, joinErrors } from '#cni/errors.ts'
import type { GcInput, Plugin, PluginHost, PluginInput } from '#cni/plugin.ts'
import { emptyResult, type Result } from '#cni/result.ts'
import { specVersions } from '#cni/version.ts'
import { checkFailed } from '#ipam/check-failed.ts'
import type { Link } from '#netlink/link-codec.ts'
import type { VfSettings } from '#netlink/link-vf.ts'
import type { NetlinkSocket } from '#netlink/socket.ts'
import { allocate } from '../link/allocate.ts'
import { checkInterface, configureInterface } from '../link/configure.ts'
import { asksOverLink } from '../link/ipam-link.ts'
import { requestedMac } from '../link/mac.ts'
import { openPod, openPodIfThere } from '../link/pod.ts'
import { refuseBareResult, refuseTakenName, staleRecords, type Call } from '../link/pod-link.ts'
import { readRecord } from '../link/record.ts'
import { all, undoing } from '../link/undo.ts'
import { describeConf, hostDeviceConf, type HostDeviceConf } from './config.ts'
import {
  moveIn,
  restoreStray,
  returnForgotten,
  returnRecorded,
  returnUnrecorded,
  takeUserspace,
  type VfClaim,
} from './move.ts'
import { describe, selectDevice } from './select.ts'
import { functionOf, pciOf } from './sysfs.ts'
import { cardOf, recordOf, wrongVf, type VfCard } from './vf.ts'
import { asksAnything, vfConf, type VfConf } from './vf-config.ts'

const TYPE = 'host-device'

/** `sysfs` is where sysfs is mounted, `cards` how virtual functions are set. */
export const hostDevicePlugin = (sysfs: string, cards: (netlink: NetlinkSocket) => VfCard = cardOf): Plugin => ({
  type: TYPE,
  versions: specVersions,
  add: (input, host) => add(input, host, sysfs, cards(host.netlink)),
  del: (input, host) => del(input, host, cards(host.netlink)),
  check: (input, host) => check(input, host, sysfs, cards(host.netlink)),
  status: (input, host) => status(input, host, sysfs),
  gc: (input, host) => gc(input, host, cards(host.netlink)),
})

export const hostDevice: Plugin = hostDevicePlugin('/sys')

async function add(input: PluginInput, host: PluginHost, sysfs: string, card: VfCard): Promise<Result> {
  const conf = hostDeviceConf(input, sysfs)
  using pod = openPod(input.netns)
  return await undoing(host, async (undo) => {
    const call: Call = { plugin: TYPE, input, host, pod, undo }
    refuseTakenName(call)
    if (input.config.ipam.type === '') refuseBareResult(input)
    await returnForgotten(host, card)
    if (conf.isUserspace) {
      const claim = claimOf(conf, undefined, input, sysfs, card)
      if (claim !== undefined) takeUserspace(call, claim)
      return addresses(call)
    }
    if (conf.selector.by === 'name') restoreStray(host, conf.selector.name)
    const device = selectDevice(host.netlink, conf, sysfs)
    await moveIn(call, device, claimOf(conf, device, input, sysfs, card))
    const { ips, routes, dns } = await addresses(call)
    const link = await configureInterface(pod, input.ifname, ips, routes, { enableDad: true })
    host.failpoint('host-device.configured')
    const { name, mac, mtu } = link
    return { interfaces: [{ name, ...(mac === undefined ? {} : { mac }), mtu, sandbox: pod.path }], ips, routes, dns }
  })
}

/** Throws CniError 7 where settings are asked for that only a virtual function has. The address that a runtime gives with the call is for one alone too. */
function claimOf(
  { vf, selector, what }: HostDeviceConf,
  link: Link | undefined,
  input: PluginInput,
  sysfs: string,
  card: VfCard,
): VfClaim | undefined {
  const pci = selector.by === 'pci' ? selector.id : link === undefined ? undefined : pciOf(sysfs, link.name)
  const place = pci === undefined ? undefined : functionOf(sysfs, pci)
  const now = place === undefined ? undefined : card.read(place)
  if (place !== undefined && now !== undefined) {
    const settings = settingsFor(input, vf)
    return asksAnything(settings) ? { card, settings, record: recordOf(place, settings, now), what } : undefined
  }
  if (vf.field === undefined) return undefined
  const which = link?.name ?? describe(selector)
  const field = JSON.stringify(vf.field)
  throw invalidConfig(`${what}: ${field} is for a virtual function, which ${which} is not`, 'leave it out')
}

const settingsFor = (input: PluginInput, { settings }: VfConf): VfSettings => ({
  ...settings,
  mac: requestedMac(input) ?? settings.mac,
})

/** Those of a device without a link belong to no interface. */
async function addresses({ input, host, undo }: Call): Promise<Result> {
  if (input.config.ipam.type === '') return emptyResult
  const { ips, routes } = await allocate(TYPE, input, host, undo)
  return { ...emptyResult, ips, routes, dns: input.config.dns }
}

async function del(input: PluginInput, host: PluginHost, card: VfCard): Promise<void> {
  const { name, ipam } = input.config
  const release = (): Promise<undefined> => host.delegate('DEL', ipam.type, input)
  const early = asksOverLink(ipam.type) ? await all([release]) : []
  host.failpoint('host-device.return')
  const device = await all([() => returnDevice(input, host, name, card)])
  host.failpoint('host-device.returned')
  const late = ipam.type !== '' && !asksOverLink(ipam.type) ? await all([release]) : []
  const joined = joinErrors([...early, ...device, ...late])
  if (joined !== undefined) throw joined
}

async function returnDevice(input: PluginInput, host: PluginHost, network: string, card: VfCard): Promise<void> {
  const known = readRecord(host, network, input)
  if (known !== undefined) return returnRecorded(host, known, card)
  using pod = openPodIfThere(input.netns)
  if (pod !== undefined) return returnUnrecorded(host, pod, input)
  // The reference plugin's, back from a namespace that ended.
  const { device } = input.config.raw
  if (typeof device === 'string' && device !== '') restoreStray(host, device)
}

async function check(input: PluginInput, host: PluginHost, sysfs: string, card: VfCard): Promise<void> {
  const conf = hostDeviceConf(input, sysfs)
  const { prevResult, config } = input
  if (prevResult === undefined) throw invalidConfig('CHECK needs the previous result', 'the runtime passes prevResult')
  if (config.ipam.type !== '') await host.delegate('CHECK', config.ipam.type, input)
  const { vf } = readRecord(host, config.name, input) ?? {}
  const wrong = vf === undefined ? undefined : wrongVf(card, vf, settingsFor(input, conf.vf))
  if (wrong !== undefined) throw checkFailed(wrong)
  if (conf.isUserspace) return
  using pod = openPod(input.netns)
  const link = checkInterface(pod, prevResult, input.ifname)
  const name = readRecord(host, config.name, input)?.device?.name ?? link.alias
  if (name === undefined || link.alias !== name)
    throw checkFailed(`${input.ifname} in ${pod.path} is no device of the host, or has lost its alias, the way back`)
  if (conf.selector.by === 'name' && conf.selector.name !== name)
    throw checkFailed(`${input.ifname} in ${pod.path} is ${name} of the host, not ${describe(conf.selector)}`)
}

async function status(input: PluginInput, host: PluginHost, sysfs: string): Promise<void> {
  vfConf(input, describeConf(input))
  // A deviceID comes with each ADD; a device that another pod has is no failure of this network.
  if ('capabilities' in input.config.raw && input.config.capabilities['deviceID'] === true)
    return ipamStatus(input, host)
  hostDeviceConf(input, sysfs)
  return ipamStatus(input, host)
}

async function ipamStatus(input: PluginInput, host: PluginHost): Promise<void> {
  if (input.config.ipam.type !== '') await host.delegate('STATUS', input.config.ipam.type, input)
}

async function gc(input: GcInput, host: PluginHost, card: VfCard): Promise<void> {
  const { ipam } = input.config
  const stale = staleRecords(input, host, TYPE)
  const collect = (): Promise<undefined> => host.delegate('GC', ipam.type, input)
  const early = asksOverLink(ipam.type) ? await all([collect]) : []
  const devices = await all(stale.map((known) => () => returnRecorded(host, known, card)))
  const late = ipam.type !== '' && !asksOverLink(ipam.type) ? await all([collect]) : []
  const joined = joinErrors([...early, ...devices, ...late])
  if (joined !== undefined) throw joined
}
