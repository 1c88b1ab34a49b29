/** The host's end of a pod's link, by the pod's. */

import { findLink, kindOf } from '#netlink/link.ts'
import type { Link } from '#netlink/link-codec.ts'
import type { PluginHost } from '#cni/plugin.ts'
import type { Result } from '#cni/result.ts'
import type { Pod } from './pod.ts'

/**
 * Where the pod's interface is a veth whose other end is here. An index says nothing without its namespace, so both ends must name each other, and where there is a
 * result it must list the link. Otherwise a sentence that says why there is none.
 */
export function hostEnd(host: PluginHost, pod: Pod, ifname: string, result: Result | undefined): Link | string {
  const inside = findLink(pod.netlink, ifname)
  if (inside === undefined) return `there is no interface ${ifname} in ${pod.path}`
  const kind = kindOf(inside)
  if (kind !== 'veth' || inside.parent === undefined)
    return `${ifname} in ${pod.path} is a ${kind ?? 'device'}, which has no end on the host`
  const outside = findLink(host.netlink, inside.parent)
  if (outside === undefined || kindOf(outside) !== 'veth' || outside.parent !== inside.index)
    return `the other end of ${ifname} in ${pod.path} is not in the host's namespace`
  if (result !== undefined && !isListed(result, outside))
    return `the other end of ${ifname} in ${pod.path} is ${outside.name}, which the previous result does not list`
  return outside
}

const isListed = ({ interfaces }: Result, link: Link): boolean =>
  interfaces.some(({ name, sandbox }) => name === link.name && (sandbox === undefined || sandbox === ''))
