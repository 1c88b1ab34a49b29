/** Giving a lease back: the address leaves the link before the server may give it to another. Works from the record alone. */

import { setTimeout as sleep } from 'node:timers/promises'

import { messageOf } from '#cni/errors.ts'
import { parseIp } from '#ip/address.ts'
import { formatIpNet } from '#ip/prefix.ts'
import { ETHERNET_BROADCAST, Socket4 } from '../io/socket4.ts'
import { Socket6 } from '../io/socket6.ts'
import { GoneError, linkLocal, neighbourTo, openPodLink, unconfigure, type PodLink } from '../io/pod-link.ts'
import { release4, type Client4 } from '../lease/machine4.ts'
import { release6 } from '../lease/machine6.ts'
import { addresses6, configuration4 } from '../result.ts'
import { client4, client6, placeOf } from './clients.ts'
import type { Deps } from './deps.ts'
import type { LeaseRecord } from './record.ts'

type ReleaseDeps = Pick<Deps, 'clock' | 'random' | 'log' | 'count' | 'failpoint'>

/** ms for the neighbour's MAC address. */
const NEIGHBOUR_MS = 300
/** ms for a DHCPv6 server's word, and how often it is asked. RFC 8415 §18.2.7 would ask four times; a pod's end does not wait so long. */
const REPLY_MS = 500
const TRIES = 2

/** Never throws: what cannot be told to a server ends there with the lease's time. */
export async function releaseLeases(record: LeaseRecord, deps: ReleaseDeps): Promise<void> {
  for (const [family, part] of [
    [4, releaseFour],
    [6, releaseSix],
  ] as const) {
    try {
      if (await part(record, deps)) deps.count('released', family)
    } catch (error) {
      deps.count('unreleased', family)
      const level = error instanceof GoneError ? 'info' : 'warn'
      deps.log(level, `dhcp: a server was not told of a released lease: ${messageOf(error)}`, fieldsOf(record))
    }
  }
}

export const fieldsOf = ({ network, containerId, ifname }: LeaseRecord) => ({ network, containerId, ifname })

async function releaseFour(record: LeaseRecord, deps: ReleaseDeps): Promise<boolean> {
  const held = record.lease4 ?? record.intent4
  if (held === undefined) return false
  using pod = openPodLink(placeOf(record))
  const client = client4(record, deps.random, 0)
  const link = { netns: pod.netns, index: pod.link.index, ifname: pod.link.name }
  using socket = new Socket4(link, held.address, { onMessage: () => {}, onGarbage: () => {} })
  const told = record.lease4 === undefined ? false : await tellByKernel(record, client, pod, socket, deps)
  if (record.lease4 !== undefined) unconfigure(pod, configuration4(record.lease4, record.priority))
  if (!told) {
    const message = release4(client, held.address, held.server, deps.clock.now())
    const mac = record.lease4 === undefined ? undefined : macOf(record, pod)
    // The kernel may have to ask for the server's MAC address first, and the link goes before it knows: a server on this very link hears the other one.
    if (mac === undefined) socket.send(message, held.server, held.address)
    socket.sendFrame(message, held.address, held.server, mac ?? ETHERNET_BROADCAST)
  }
  return true
}

const macOf = ({ lease4 }: LeaseRecord, pod: PodLink) =>
  lease4 === undefined
    ? undefined
    : neighbourTo(
        pod,
        formatIpNet({ ip: parseIp(lease4.address), length: lease4.length }),
        lease4.server,
        lease4.router,
      )

/** Where the server's MAC address is not known, the kernel asks for it while the address is still there. True when that was done. */
async function tellByKernel(
  record: LeaseRecord,
  client: Client4,
  pod: PodLink,
  socket: Socket4,
  { clock }: ReleaseDeps,
): Promise<boolean> {
  const { lease4 } = record
  if (lease4 === undefined || macOf(record, pod) !== undefined) return false
  socket.send(release4(client, lease4.address, lease4.server, clock.now()), lease4.server, lease4.address)
  const deadline = performance.now() + NEIGHBOUR_MS
  while (performance.now() < deadline) {
    if (macOf(record, pod) !== undefined) return true
    await sleep(10)
  }
  return false
}

async function releaseSix(record: LeaseRecord, deps: ReleaseDeps): Promise<boolean> {
  const held = record.lease6 ?? record.intent6
  if (held === undefined) return false
  const place = placeOf(record)
  const own = await linkLocal(place)
  using pod = openPodLink(place)
  if (record.lease6 !== undefined) unconfigure(pod, { addresses: addresses6(record.lease6), routes: [] })
  if (own === undefined) throw new Error('the link has lost its link-local address')
  const client = client6(record, deps.random)
  const message = release6(client, held, deps.clock.now())
  const { promise, resolve } = Promise.withResolvers<void>()
  const link = { netns: pod.netns, index: pod.link.index, ifname: pod.link.name }
  const onMessage = ({ type, xid }: { readonly type: string; readonly xid: number }): void => {
    if (type === 'reply' && xid === message.xid) resolve()
  }
  using socket = new Socket6(link, own, { onMessage, onGarbage: () => {} })
  for (let i = 0; i < TRIES; i++) {
    socket.send(message)
    const isAnswered = await Promise.race([promise.then(() => true), sleep(REPLY_MS, false)])
    if (isAnswered) break
  }
  return true
}
