/** The plugin host-device: a network device of the host moves into the pod, and comes back. Contract: the reference plugin's configuration and result. */

import { invalidConfig, joinErrors } from '#cni/errors.ts'
import type { GcInput, Plugin, PluginHost, PluginInput } from '#cni/plugin.ts'
import { emptyResult, type Result } from '#cni/result.ts'
import { specVersions } from '#cni/version.ts'
import { checkFailed } from '#ipam/check-failed.ts'
import { allocate } from '../link/allocate.ts'
import { checkInterface, configureInterface } from '../link/configure.ts'
import { asksOverLink } from '../link/ipam-link.ts'
import { openPod, openPodIfThere } from '../link/pod.ts'
import { refuseBareResult, refuseTakenName, staleRecords, type Call } from '../link/pod-link.ts'
import { readRecord } from '../link/record.ts'
import { all, undoing } from '../link/undo.ts'
import { hostDeviceConf } from './config.ts'
import { moveIn, restoreStray, returnForgotten, returnRecorded, returnUnrecorded } from './move.ts'
import { describe, selectDevice } from './select.ts'

const TYPE = 'host-device'

/** `sysfs` is where sysfs is mounted. */
export const hostDevicePlugin = (sysfs: string): Plugin => ({
  type: TYPE,
  versions: specVersions,
  add: (input, host) => add(input, host, sysfs),
  del,
  check: (input, host) => check(input, host, sysfs),
  status: (input, host) => status(input, host, sysfs),
  gc,
})

export const hostDevice: Plugin = hostDevicePlugin('/sys')

async function add(input: PluginInput, host: PluginHost, sysfs: string): Promise<Result> {
  const conf = hostDeviceConf(input, sysfs)
  using pod = openPod(input.netns)
  return await undoing(host, async (undo) => {
    const call: Call = { plugin: TYPE, input, host, pod, undo }
    refuseTakenName(call)
    if (input.config.ipam.type === '') refuseBareResult(input)
    if (conf.isUserspace) return addresses(call)
    await returnForgotten(host)
    if (conf.selector.by === 'name') restoreStray(host, conf.selector.name)
    await moveIn(call, selectDevice(host.netlink, conf, sysfs))
    const { ips, routes, dns } = await addresses(call)
    const link = await configureInterface(pod, input.ifname, ips, routes, { enableDad: true })
    host.failpoint('host-device.configured')
    const { name, mac, mtu } = link
    return { interfaces: [{ name, ...(mac === undefined ? {} : { mac }), mtu, sandbox: pod.path }], ips, routes, dns }
  })
}

/** Those of a device without a link belong to no interface. */
async function addresses({ input, host, undo }: Call): Promise<Result> {
  if (input.config.ipam.type === '') return emptyResult
  const { ips, routes } = await allocate(TYPE, input, host, undo)
  return { ...emptyResult, ips, routes, dns: input.config.dns }
}

async function del(input: PluginInput, host: PluginHost): Promise<void> {
  const { name, ipam } = input.config
  const release = (): Promise<undefined> => host.delegate('DEL', ipam.type, input)
  const early = asksOverLink(ipam.type) ? await all([release]) : []
  host.failpoint('host-device.return')
  const device = await all([() => returnDevice(input, host, name)])
  host.failpoint('host-device.returned')
  const late = ipam.type !== '' && !asksOverLink(ipam.type) ? await all([release]) : []
  const joined = joinErrors([...early, ...device, ...late])
  if (joined !== undefined) throw joined
}

async function returnDevice(input: PluginInput, host: PluginHost, network: string): Promise<void> {
  const known = readRecord(host, network, input)
  if (known !== undefined) return returnRecorded(host, known)
  using pod = openPodIfThere(input.netns)
  if (pod !== undefined) return returnUnrecorded(host, pod, input)
  // The reference plugin's, back from a namespace that ended.
  const { device } = input.config.raw
  if (typeof device === 'string' && device !== '') restoreStray(host, device)
}

async function check(input: PluginInput, host: PluginHost, sysfs: string): Promise<void> {
  const conf = hostDeviceConf(input, sysfs)
  const { prevResult, config } = input
  if (prevResult === undefined) throw invalidConfig('CHECK needs the previous result', 'the runtime passes prevResult')
  if (config.ipam.type !== '') await host.delegate('CHECK', config.ipam.type, input)
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
  // A deviceID comes with each ADD; a device that another pod has is no failure of this network.
  if ('capabilities' in input.config.raw && input.config.capabilities['deviceID'] === true)
    return ipamStatus(input, host)
  hostDeviceConf(input, sysfs)
  return ipamStatus(input, host)
}

async function ipamStatus(input: PluginInput, host: PluginHost): Promise<void> {
  if (input.config.ipam.type !== '') await host.delegate('STATUS', input.config.ipam.type, input)
}

async function gc(input: GcInput, host: PluginHost): Promise<void> {
  const { ipam } = input.config
  const stale = staleRecords(input, host, TYPE)
  const collect = (): Promise<undefined> => host.delegate('GC', ipam.type, input)
  const early = asksOverLink(ipam.type) ? await all([collect]) : []
  const devices = await all(stale.map((known) => () => returnRecorded(host, known)))
  const late = ipam.type !== '' && !asksOverLink(ipam.type) ? await all([collect]) : []
  const joined = joinErrors([...early, ...devices, ...late])
  if (joined !== undefined) throw joined
}
