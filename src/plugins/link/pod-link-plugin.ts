/** The five verbs of a plugin whose link lives in the pod alone. What a kind has of its own comes as a `PodLinkKind`. */

import { invalidConfig, joinErrors } from '#cni/errors.ts'
import type { GcInput, Plugin, PluginHost, PluginInput } from '#cni/plugin.ts'
import { emptyResult, type Result } from '#cni/result.ts'
import { specVersions } from '#cni/version.ts'
import { checkFailed } from '#ipam/check-failed.ts'
import { kindOf } from '#netlink/link.ts'
import type { Link } from '#netlink/link-codec.ts'
import type { LinkInfo } from '#netlink/link-kinds.ts'
import { allocate } from './allocate.ts'
import { checkInterface, configureInterface } from './configure.ts'
import { asksOverLink } from './ipam-link.ts'
import { openPod, type Pod } from './pod.ts'
import { record, refuseBareResult, refuseTakenName, removePodLink, removeStalePodLinks, type Call } from './pod-link.ts'
import { all, undoing, type Undo } from './undo.ts'

export interface PodLinkKind<Conf> {
  readonly type: string
  /** The link's kind in the kernel. */
  readonly kind: LinkInfo['kind']
  /** Detect duplicate IPv6 addresses: where others share the link. */
  readonly enableDad: boolean
  /** Throws CniError 7. Looks at nothing but the input. */
  readonly conf: (input: PluginInput) => Conf
  /** Makes the link in the pod, marked, under its final name, down. */
  readonly create: (call: Call, conf: Conf) => void
  /** Where the configuration has no IPAM: the addresses of an earlier plugin, undefined for a link without any. */
  readonly inherited?: (input: PluginInput) => Result | undefined
  /** Which DNS settings the result has; without it, the configuration's. */
  readonly dns?: (config: Result['dns'], ipam: Result['dns']) => Result['dns']
  /** CHECK of what is its own. Throws CniError 100. */
  readonly check?: (link: Link, conf: Conf, pod: Pod, host: PluginHost) => void
  /** STATUS: what an ADD would need. Throws CniError 50. */
  readonly status?: (conf: Conf, host: PluginHost) => void
}

export function podLinkPlugin<Conf>(kind: PodLinkKind<Conf>): Plugin {
  return {
    type: kind.type,
    versions: specVersions,
    add: (input, host) => add(kind, input, host),
    del: (input, host) => del(kind, input, host),
    check: (input, host) => check(kind, input, host),
    status: (input, host) => status(kind, input, host),
    gc: (input, host) => gc(kind, input, host),
  }
}

async function add<Conf>(kind: PodLinkKind<Conf>, input: PluginInput, host: PluginHost): Promise<Result> {
  const conf = kind.conf(input)
  // Open for as long as the way back may need it.
  using pod = openPod(input.netns)
  return await undoing(host, (undo) => connect(kind, conf, { plugin: kind.type, input, host, pod, undo }))
}

async function connect<Conf>(kind: PodLinkKind<Conf>, conf: Conf, call: Call): Promise<Result> {
  const { input, host, pod, undo } = call
  refuseTakenName(call)
  if (input.config.ipam.type === '' && kind.inherited?.(input) === undefined) refuseBareResult(input)
  record(call)
  host.failpoint(`${kind.type}.recorded`)
  kind.create(call, conf)
  host.failpoint(`${kind.type}.linked`)
  const { ips, routes, dns } = await addressesFor(kind, input, host, undo)
  const link = await configureInterface(pod, input.ifname, ips, routes, kind)
  host.failpoint(`${kind.type}.configured`)
  const { name, mac, mtu } = link
  return {
    interfaces: [{ name, ...(mac === undefined ? {} : { mac }), mtu, sandbox: pod.path }],
    ips,
    routes,
    dns: kind.dns?.(input.config.dns, dns) ?? input.config.dns,
  }
}

async function addressesFor<Conf>(
  kind: PodLinkKind<Conf>,
  input: PluginInput,
  host: PluginHost,
  undo: Undo,
): Promise<Result> {
  if (input.config.ipam.type !== '') return allocate(kind.type, input, host, undo)
  const { ips, ...others } = kind.inherited?.(input) ?? emptyResult
  return { ...others, ips: ips.map((ip) => ({ ...ip, interface: 0 })) }
}

/** The link first: an address may go to another pod only when this one cannot send from it any more. But see `asksOverLink`. */
async function del<Conf>(kind: PodLinkKind<Conf>, input: PluginInput, host: PluginHost): Promise<void> {
  const { type } = input.config.ipam
  const early = asksOverLink(type) ? await all([() => host.delegate('DEL', type, input)]) : []
  host.failpoint(`${kind.type}.unlink`)
  const link = await all([() => removePodLink(input, host, kind.kind)])
  host.failpoint(`${kind.type}.unlinked`)
  const late = type !== '' && !asksOverLink(type) ? await all([() => host.delegate('DEL', type, input)]) : []
  const joined = joinErrors([...early, ...link, ...late])
  if (joined !== undefined) throw joined
}

async function check<Conf>(kind: PodLinkKind<Conf>, input: PluginInput, host: PluginHost): Promise<void> {
  const conf = kind.conf(input)
  const { prevResult, config } = input
  if (prevResult === undefined) throw invalidConfig('CHECK needs the previous result', 'the runtime passes prevResult')
  if (config.ipam.type !== '') await host.delegate('CHECK', config.ipam.type, input)
  using pod = openPod(input.netns)
  const link = checkInterface(pod, prevResult, input.ifname)
  if (kindOf(link) !== kind.kind)
    throw checkFailed(`${input.ifname} in ${pod.path} is a ${kindOf(link) ?? 'device'}, not a ${kind.kind}`)
  kind.check?.(link, conf, pod, host)
}

async function status<Conf>(kind: PodLinkKind<Conf>, input: PluginInput, host: PluginHost): Promise<void> {
  const conf = kind.conf(input)
  kind.status?.(conf, host)
  if (input.config.ipam.type !== '') await host.delegate('STATUS', input.config.ipam.type, input)
}

async function gc<Conf>(kind: PodLinkKind<Conf>, input: GcInput, host: PluginHost): Promise<void> {
  const { type } = input.config.ipam
  const early = asksOverLink(type) ? await all([() => host.delegate('GC', type, input)]) : []
  const links = await removeStalePodLinks(input, host, kind.type, kind.kind)
  const late = type !== '' && !asksOverLink(type) ? await all([() => host.delegate('GC', type, input)]) : []
  const joined = joinErrors([...early, ...links, ...late])
  if (joined !== undefined) throw joined
}
