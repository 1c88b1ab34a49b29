/** A link that is born in the pod and has no end on the host: macvlan, ipvlan, vlan, dummy, tap. */

import { createHash } from 'node:crypto'

import { incompatibleVersion, invalidConfig, invalidEnvironment, tryAgain, unsupportedField } from '#cni/errors.ts'
import { netnsIdentity } from '#cni/netns.ts'
import type { Attachment, GcInput, PluginHost, PluginInput } from '#cni/plugin.ts'
import { isAtLeast } from '#cni/version.ts'
import type { MacText } from '#ip/text.ts'
import { createLinkMessage, findLink, kindOf, setLinkMessage } from '#netlink/link.ts'
import type { Link } from '#netlink/link-codec.ts'
import type { LinkInfo } from '#netlink/link-kinds.ts'
import { hasCode } from '#sys/errno.ts'
import { netnsId } from '#sys/netns.ts'
import { aliasOf } from './owner.ts'
import { openPodIfThere, type Pod } from './pod.ts'
import { listRecords, readRecord, removeRecord, writeRecord, type LinkRecord } from './record.ts'
import { all, type Undo } from './undo.ts'
import { removeLink, sendAll } from './veth.ts'

/** An ADD at work. */
export interface Call {
  /** The plugin's type. */
  readonly plugin: string
  readonly input: PluginInput
  readonly host: PluginHost
  readonly pod: Pod
  readonly undo: Undo
}

export interface PodLink {
  readonly info: LinkInfo
  /** 0 for the kernel's default. */
  readonly mtu: number
  readonly mac?: MacText | undefined
  readonly master?: Link | undefined
  /** The master lives in the pod. */
  readonly inContainer: boolean
}

const markOf = (input: PluginInput): string => aliasOf(input.config.name, input)

/** Under which a link is born whose final name is taken on the host: kernels before 6.15 look for conflicts there. */
const temporaryName = (network: string, { containerId, ifname }: Attachment): string =>
  `heddle${createHash('sha256').update(`${network}:${containerId}:${ifname}`).digest('hex').slice(0, 8)}`

/** Throws CniError 4 when the pod has an interface of that name. */
export function refuseTakenName({ input, pod }: Pick<Call, 'input' | 'pod'>): void {
  if (findLink(pod.netlink, input.ifname) === undefined) return
  throw invalidEnvironment(
    `the container already has an interface ${input.ifname}`,
    `give this attachment another CNI_IFNAME, or run DEL for the one that made it (${pod.path})`,
  )
}

/** Before anything is made: a result without addresses cannot be told in the oldest versions. Throws CniError 1. */
export function refuseBareResult({ config }: PluginInput): void {
  if (isAtLeast(config.cniVersion, '0.3.0') !== false) return
  throw incompatibleVersion(
    `network ${JSON.stringify(config.name)} has no "ipam", and cniVersion ${config.cniVersion} knows no result without addresses`,
    'set cniVersion to 0.3.0 or newer',
  )
}

/** Remembers where the link goes before it goes there. */
export function record(
  { plugin, input, host, pod, undo }: Call,
  known: Pick<LinkRecord, 'device' | 'vf' | 'proxied' | 'shared'> = {},
): void {
  const { config, containerId, ifname } = input
  const network = config.name
  undo.add('record', () => removeRecord(host, network, input))
  writeRecord(host, {
    plugin,
    network,
    containerId,
    ifname,
    netns: pod.path,
    netnsId: netnsId(pod.fd),
    ...known,
  })
}

/** To be called as soon as the link is there: marks it, and removes it should the ADD fail. */
export function mark({ input, pod, undo }: Call, name: string): void {
  undo.add(`link ${input.ifname}`, async () => {
    await removeLink(pod.netlink, input.ifname)
    if (name !== input.ifname) await removeLink(pod.netlink, name)
  })
  const alias = markOf(input)
  const { ifname } = input
  if (name === ifname) return sendAll(pod.netlink, [setLinkMessage(ifname, { alias })])
  const born = findLink(pod.netlink, name)
  if (born === undefined) throw invalidConfig(`${name} vanished from ${pod.path} while it was set up`)
  sendAll(pod.netlink, [setLinkMessage(born.index, { name: ifname, alias })])
}

/** Like `ip link add link MASTER name IFNAME netns POD type …`. Throws CniError 7 or 2 where the kernel's refusal has a reason that the user can mend. */
export function createPodLink(call: Call, link: PodLink): void {
  const { input, host, pod } = call
  const { info, mtu, mac, master, inContainer } = link
  const socket = inContainer ? pod.netlink : host.netlink
  const create = (name: string): void => {
    const settings = { info, mac, parent: master?.index, ...(mtu === 0 ? {} : { mtu }) }
    socket.request(createLinkMessage({ name, ...settings, ...(inContainer ? {} : { netnsFd: pod.fd }) }))
  }
  const taken = !inContainer && findLink(host.netlink, input.ifname) !== undefined
  const name = taken ? temporaryName(input.config.name, input) : input.ifname
  try {
    create(name)
  } catch (error) {
    throw explain(error, link, input)
  }
  mark(call, name)
}

function explain(error: unknown, { info, master, mtu }: PodLink, input: PluginInput): unknown {
  const on = master === undefined ? '' : ` on ${master.name}`
  const what = `network ${JSON.stringify(input.config.name)}: a ${info.kind}${on}`
  const cause = { cause: error }
  if (hasCode(error, 'EOPNOTSUPP')) {
    const option = `CONFIG_${info.kind.toUpperCase()}`
    return unsupportedField(
      `${what} cannot be made: this kernel has none`,
      `modprobe ${info.kind}, or ${option}`,
      cause,
    )
  }
  if (hasCode(error, 'EBUSY'))
    return invalidConfig(`${what} cannot be made`, `${master?.name} serves a bridge, a bond or another kind`, cause)
  if (hasCode(error, 'EEXIST'))
    return invalidConfig(`${what} cannot be made: there is one already`, 'in this or another pod', cause)
  if (hasCode(error, 'EINVAL', 'ERANGE')) return invalidConfig(`${what} (mtu ${mtu}) is refused`, String(error), cause)
  return error
}

/** Not another attachment's, which may have the same name in the same pod. The reference plugins mark nothing. */
const mayBeOurs = (link: Link, alias: string): boolean =>
  link.alias === undefined || link.alias === alias || !link.alias.startsWith('heddle:')

/** DEL: the link goes, wherever CNI_NETNS or our record leads; nothing left is no error. */
export async function removePodLink(input: PluginInput, host: PluginHost, kind: LinkInfo['kind']): Promise<void> {
  const network = input.config.name
  using pod = openPodIfThere(input.netns)
  if (pod !== undefined)
    await removeFrom(pod, network, input, (link) => kindOf(link) === kind && mayBeOurs(link, markOf(input)))
  const known = readRecord(host, network, input)
  if (known !== undefined) await removeRecorded(known, host, kind)
}

/** GC: what is recorded for attachments that are no more. Returns what failed. */
export function removeStalePodLinks(
  input: GcInput,
  host: PluginHost,
  plugin: string,
  kind: LinkInfo['kind'],
): Promise<readonly unknown[]> {
  return all(staleRecords(input, host, plugin).map((known) => () => removeRecorded(known, host, kind)))
}

/** The records of a network's attachments that are not valid any more. */
export function staleRecords(
  { validAttachments, config }: GcInput,
  host: PluginHost,
  plugin: string,
): readonly LinkRecord[] {
  const keep = new Set(validAttachments.map(({ containerId, ifname }) => `${containerId}:${ifname}`))
  return listRecords(host, plugin, config.name).filter(
    ({ containerId, ifname }) => !keep.has(`${containerId}:${ifname}`),
  )
}

/** The namespace that a record tells of, if it is still that one: paths and inodes are used again. Throws CniError 11 when it is there and does not open. */
export function openRecorded(known: LinkRecord): Pod | undefined {
  const pod = openPodIfThere(known.netns)
  if (pod === undefined && netnsIdentity(known.netns) === known.netnsId)
    throw tryAgain(`the namespace ${known.netns} of container ${known.containerId} cannot be opened`)
  if (pod === undefined || netnsId(pod.fd) === known.netnsId) return pod
  pod[Symbol.dispose]()
  return undefined
}

async function removeRecorded(known: LinkRecord, host: PluginHost, kind: LinkInfo['kind']): Promise<void> {
  using pod = openRecorded(known)
  const alias = aliasOf(known.network, known)
  // Without a mark it is one that a kill kept from getting its own: the name was free when the record was written.
  const ours = (link: Link): boolean => link.alias === alias || (link.alias === undefined && kindOf(link) === kind)
  if (pod !== undefined) await removeFrom(pod, known.network, known, ours)
  removeRecord(host, known.network, known)
}

async function removeFrom(
  pod: Pod,
  network: string,
  attachment: Attachment,
  ours: (link: Link) => boolean,
): Promise<void> {
  const link = findLink(pod.netlink, attachment.ifname)
  if (link !== undefined && ours(link)) await removeLink(pod.netlink, link.index)
  const half = findLink(pod.netlink, temporaryName(network, attachment))
  if (half !== undefined) await removeLink(pod.netlink, half.index)
}
