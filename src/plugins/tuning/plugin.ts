/** The chained plugin tuning: settings of the pod's interface, and sysctls of its namespace. Contract: the reference plugin's configuration and its files. */

import { invalidConfig, joinErrors, messageOf } from '#cni/errors.ts'
import type { GcInput, Plugin, PluginHost, PluginInput } from '#cni/plugin.ts'
import type { Result } from '#cni/result.ts'
import { specVersions } from '#cni/version.ts'
import { checkFailed } from '#ipam/check-failed.ts'
import { tryParseMac } from '#ip/mac.ts'
import { findLink, setLinkMessage, type LinkSettings } from '#netlink/link.ts'
import { IFF, type Link } from '#netlink/link-codec.ts'
import { hasCode } from '#sys/errno.ts'
import { inNetns, netnsId } from '#sys/netns.ts'
import { readSysctl, SysctlError, writeSysctl } from '#sys/sysctl.ts'
import { openPod, openPodIfThere, type Pod } from '../link/pod.ts'
import { openRecorded } from '../link/pod-link.ts'
import { all, undoing, type Undo } from '../link/undo.ts'
import { refuseUnsafe } from './allowlist.ts'
import {
  backupFile,
  backupOf,
  firstOf,
  listBackups,
  readBackup,
  removeBackup,
  writeBackup,
  type Backup,
} from './backup.ts'
import { dataDirIn, tuningConf, type LinkTuning, type Setting, type TuningConf } from './config.ts'

export const tuning: Plugin = { type: 'tuning', versions: specVersions, add, del, check, status, gc }

function allowedConf(input: PluginInput, host: PluginHost): TuningConf {
  const conf = tuningConf(input)
  refuseUnsafe(host, conf.what, conf.sysctls)
  return conf
}

/** Throws CniError 7 when the plugin is not chained behind one that makes an interface. */
function previous(input: PluginInput): Result {
  if (input.prevResult !== undefined) return input.prevResult
  throw invalidConfig('tuning must be called as a chained plugin', 'put it after bridge or another plugin in the list')
}

const hasAny = (tuned: LinkTuning): boolean => Object.values(tuned).some((value) => value !== undefined)

async function add(input: PluginInput, host: PluginHost): Promise<Result> {
  const result = previous(input)
  const conf = allowedConf(input, host)
  using pod = openPod(input.netns)
  return await undoing(host, async (undo) => {
    if (hasAny(conf.link)) tuneLink(input, host, pod, conf, undo)
    setSysctls(pod, conf, undo)
    host.failpoint('tuning.done')
    return resultWith(result, input.ifname, conf.link)
  })
}

/** Only after what it was like is on disk. */
function tuneLink(
  input: PluginInput,
  host: PluginHost,
  pod: Pod,
  { what, link, dataDir }: TuningConf,
  undo: Undo,
): void {
  const found = linkOf(pod, input.ifname)
  const file = backupFile(host, dataDir, input)
  const before = readBackup(host, file)
  const { containerId, ifname } = input
  const heddle = { network: input.config.name, containerId, ifname, netns: pod.path, netnsId: netnsId(pod.fd) }
  const now = { ...backupOf(found, link), heddle }
  undo.add(`backup ${file}`, () => (before === undefined ? removeBackup(file) : writeBackup(file, before)))
  writeBackup(file, firstOf(before, now))
  host.failpoint('tuning.saved')
  undo.add(`settings of ${ifname}`, () => restore(host, pod, ifname, now))
  const failed = pod.netlink.batch(settingsOf(link).map((settings) => setLinkMessage(found.index, settings)))
  const error = failed.find((one) => one !== undefined)
  if (error !== undefined)
    throw invalidConfig(`${what}: ${ifname} in ${pod.path} does not take it`, messageOf(error), { cause: error })
  host.failpoint('tuning.linked')
}

function linkOf(pod: Pod, ifname: string): Link {
  const link = findLink(pod.netlink, ifname)
  if (link !== undefined) return link
  throw invalidConfig(`there is no interface ${ifname} in ${pod.path}`, 'put tuning after the plugin that makes it')
}

/** One by one, so that a failure names its reason and the others are done all the same when it goes back. */
function settingsOf({ mac, promisc, mtu, allmulti, txQLen }: LinkTuning): readonly LinkSettings[] {
  return [
    ...(mtu === undefined ? [] : [{ mtu }]),
    ...(mac === undefined ? [] : [{ mac }]),
    ...(promisc === undefined ? [] : [{ promisc }]),
    ...(allmulti === undefined ? [] : [{ allMulticast: allmulti }]),
    ...(txQLen === undefined ? [] : [{ txQueueLength: txQLen }]),
  ]
}

/** What cannot be restored is logged: the interface is about to go. */
function restore(host: PluginHost, pod: Pod, ifname: string, { mac, promisc, mtu, allmulti, txQLen }: Backup): void {
  const link = findLink(pod.netlink, ifname)
  if (link === undefined) return
  const former = tryParseMac(mac ?? '')
  const settings: readonly LinkSettings[] = [
    ...(mtu === undefined || mtu === null || mtu === 0 ? [] : [{ mtu }]),
    ...(former === undefined ? [] : [{ mac: former }]),
    ...(promisc === undefined || promisc === null ? [] : [{ promisc }]),
    ...(allmulti === undefined || allmulti === null ? [] : [{ allMulticast: allmulti }]),
    ...(txQLen === undefined || txQLen === null ? [] : [{ txQueueLength: txQLen }]),
  ]
  const results = pod.netlink.batch(settings.map((setting) => setLinkMessage(link.index, setting)))
  for (const [i, error] of results.entries()) {
    if (error === undefined || hasCode(error, 'ENODEV')) continue
    const setting = JSON.stringify(settings[i])
    host.log('warn', `${ifname} in ${pod.path} does not take back ${setting}`, { error: messageOf(error) })
  }
}

function setSysctls(pod: Pod, { what, sysctls }: TuningConf, undo: Undo): void {
  for (const { key, target, value } of sysctls) {
    try {
      const before = inNetns(pod.fd, () => {
        const text = readSysctl(target)
        writeSysctl(target, value)
        return text
      })
      undo.add(`sysctl ${key}`, () => inNetns(pod.fd, () => writeSysctl(target, before)))
    } catch (error) {
      if (!(error instanceof SysctlError)) throw error
      throw invalidConfig(`${what}: sysctl ${JSON.stringify(key)}`, messageOf(error), { cause: error })
    }
  }
}

/** Later plugins, and CHECK of earlier ones, find the interface as it is now. */
function resultWith(result: Result, ifname: string, { mac, mtu }: LinkTuning): Result {
  if (mac === undefined && mtu === undefined) return result
  const interfaces = result.interfaces.map((link) =>
    link.name === ifname && link.sandbox !== undefined && link.sandbox !== ''
      ? { ...link, ...(mac === undefined ? {} : { mac }), ...(mtu === undefined ? {} : { mtu }) }
      : link,
  )
  return { ...result, interfaces }
}

/** The file goes whatever becomes of the interface; sysctls go with the namespace. */
async function del(input: PluginInput, host: PluginHost): Promise<void> {
  const file = backupFile(host, dataDirIn(input), input)
  const backup = readBackup(host, file)
  host.failpoint('tuning.restore')
  using pod =
    openPodIfThere(input.netns) ?? (backup?.heddle === undefined ? undefined : openRecorded(recordOf(backup.heddle)))
  if (backup !== undefined && pod !== undefined && isOf(backup, pod)) restore(host, pod, input.ifname, backup)
  host.failpoint('tuning.restored')
  removeBackup(file)
}

const isOf = ({ heddle }: Backup, pod: Pod): boolean => heddle === undefined || heddle.netnsId === netnsId(pod.fd)

const recordOf = (heddle: NonNullable<Backup['heddle']>) => ({ plugin: 'tuning', ...heddle })

async function check(input: PluginInput, host: PluginHost): Promise<void> {
  previous(input)
  const { link, sysctls } = allowedConf(input, host)
  using pod = openPod(input.netns)
  for (const setting of sysctls) checkSysctl(pod, setting)
  const wrong = hasAny(link) ? wrongLink(findLink(pod.netlink, input.ifname), link) : undefined
  if (wrong !== undefined) throw checkFailed(`${input.ifname} in ${pod.path} ${wrong}`)
}

/** The kernel writes lists with tabs, people with spaces. */
const words = (text: string): string => text.trim().split(/\s+/).join(' ')

function checkSysctl(pod: Pod, { key, target, value }: Setting): void {
  let now: string
  try {
    now = inNetns(pod.fd, () => readSysctl(target))
  } catch (error) {
    if (!(error instanceof SysctlError)) throw error
    throw checkFailed(messageOf(error))
  }
  if (words(now) !== words(value))
    throw checkFailed(`sysctl ${key} is ${JSON.stringify(now)}, not ${JSON.stringify(value)}`)
}

function wrongLink(link: Link | undefined, { mac, promisc, mtu, allmulti, txQLen }: LinkTuning): string | undefined {
  if (link === undefined) return 'is gone'
  if (mac !== undefined && link.mac !== mac) return `has the MAC address ${link.mac}, not ${mac}`
  if (mtu !== undefined && link.mtu !== mtu) return `has the MTU ${link.mtu}, not ${mtu}`
  if (promisc === true && (link.flags & IFF.PROMISC) === 0) return 'is not promiscuous'
  if (allmulti !== undefined && ((link.flags & IFF.ALLMULTI) !== 0) !== allmulti)
    return allmulti ? 'does not receive all multicast' : 'receives all multicast'
  if (txQLen !== undefined && link.txQueueLength !== txQLen)
    return `has a queue of ${link.txQueueLength} packets, not ${txQLen}`
  return undefined
}

async function status(input: PluginInput, host: PluginHost): Promise<void> {
  allowedConf(input, host)
}

async function gc(input: GcInput, host: PluginHost): Promise<void> {
  const keep = new Set(input.validAttachments.map(({ containerId, ifname }) => `${containerId}:${ifname}`))
  const stale = listBackups(host, dataDirIn(input), input.config.name).filter(
    ([, { heddle }]) => !keep.has(`${heddle.containerId}:${heddle.ifname}`),
  )
  const joined = joinErrors(
    await all(
      stale.map(([file, backup]) => () => {
        using pod = openRecorded(recordOf(backup.heddle))
        if (pod !== undefined) restore(host, pod, backup.heddle.ifname, backup)
        removeBackup(file)
      }),
    ),
  )
  if (joined !== undefined) throw joined
}
