/** Damage and misconfiguration that several plugins share. */

import type { JsonObject } from '#cni/json.ts'
import { Failed } from '../call.ts'
import type { Pod } from '../pod.ts'
import { readResult } from '../shape.ts'
import type { Damage, Refusal } from '../subject.ts'
import type { Trial } from '../trial.ts'

export const lanSubnet = '10.88.0'

/** 253 addresses and a default route. */
export const lanIpam: JsonObject = {
  type: 'host-local',
  ranges: [[{ subnet: `${lanSubnet}.0/24` }]],
  routes: [{ dst: '0.0.0.0/0' }],
}

/** What can happen to the link that a main plugin made. */
export const linkDamages: readonly Damage[] = [
  {
    id: 'link-gone',
    what: 'its interface was deleted',
    apply: (t, pod) => inPod(t, pod, 'link', 'delete', pod.ifname),
  },
  {
    id: 'link-down',
    what: 'its interface was set down',
    basis: 'OPS',
    apply: (t, pod) => inPod(t, pod, 'link', 'set', pod.ifname, 'down'),
  },
  {
    id: 'address-gone',
    what: 'its address was removed',
    apply: (t, pod) => inPod(t, pod, 'address', 'flush', 'dev', pod.ifname),
  },
  {
    id: 'address-changed',
    what: 'its address was replaced by another',
    apply: async (t, pod) => {
      await inPod(t, pod, 'address', 'flush', 'dev', pod.ifname)
      await inPod(t, pod, 'address', 'add', '192.0.2.7/24', 'dev', pod.ifname)
    },
  },
]

/** The route that lanIpam asks for. */
export const routeDamage: Damage = {
  id: 'route-gone',
  what: 'its default route was removed',
  apply: (t, pod) => inPod(t, pod, 'route', 'delete', 'default'),
}

export const kindDamage: Damage = {
  id: 'link-replaced',
  what: 'a link of another kind took its name',
  apply: async (t, pod) => {
    await inPod(t, pod, 'link', 'delete', pod.ifname)
    await inPod(t, pod, 'link', 'add', pod.ifname, 'type', 'bridge')
    await inPod(t, pod, 'link', 'set', pod.ifname, 'up')
    const { ips } = readResult(pod.result ?? {})
    for (const { address } of ips) await inPod(t, pod, 'address', 'add', address, 'dev', pod.ifname)
    await t.machine.run(['ip', 'route', 'add', 'default', 'dev', pod.ifname], '', pod.netns)
  },
}

/** Whatever filters and translates on the host, as `nft flush ruleset` or a restarted firewall leaves it. */
export const rulesDamage: Damage = {
  id: 'rules-gone',
  what: 'the firewall was flushed',
  basis: 'OPS',
  apply: (t) => t.machine.do('nft', 'flush', 'ruleset'),
}

export async function inPod(trial: Trial, pod: Pod, ...args: string[]): Promise<void> {
  await trial.machine.in(pod.netns, 'ip', ...args)
}

/** The host's end of the pod's link, as the result names it. */
export function hostLinkOf(pod: Pod): string {
  const { interfaces } = readResult(pod.result ?? {})
  const link = interfaces.find(({ name, sandbox }) => (sandbox ?? '') === '' && name.startsWith('veth'))
  if (link === undefined) throw new Failed('the result names no veth of the host')
  return link.name
}

/** A refusal of one changed or added key; undefined leaves it out. */
export function wrong(
  id: string,
  what: string,
  patch: Readonly<Record<string, JsonObject[string]>>,
  basis: 'SPEC' | 'REF' | 'OPS' = 'REF',
): Refusal {
  return { id, what, basis, change: (conf) => ({ ...conf, ...patch }) }
}

/** The same for a key of `ipam`. */
export function wrongIpam(
  id: string,
  what: string,
  ipam: Readonly<Record<string, JsonObject[string]>>,
  basis: 'SPEC' | 'REF' | 'OPS' = 'REF',
): Refusal {
  return { id, what, basis, change: (conf) => ({ ...conf, ipam }) }
}

export const noSuchIpam: Refusal = {
  id: 'ipam-not-found',
  what: 'an IPAM plugin that is not in CNI_PATH',
  basis: 'SPEC',
  change: (conf) => ({ ...conf, ipam: { ...lanIpam, type: 'no-such-ipam' } }),
}

/** CVE-2021-20206: the type was joined to a path unchecked. */
export const ipamTraversal: Refusal = {
  id: 'ipam-path',
  what: 'an IPAM type that is a path (CVE-2021-20206)',
  basis: 'SPEC',
  change: (conf) => ({ ...conf, ipam: { ...lanIpam, type: '../../../../../bin/true' } }),
}
