/** The clients of one attachment: what a record says, as state machines with their ports. */

import { bringUp, linkLocal, openPodLink, type Place } from '../io/pod-link.ts'
import { Socket4 } from '../io/socket4.ts'
import { Socket6 } from '../io/socket6.ts'
import type { Random } from '../lease/backoff.ts'
import { message4, resume4, start4, timer4, type Client4 } from '../lease/machine4.ts'
import { message6, resume6, start6, timer6, type Client6 } from '../lease/machine6.ts'
import type { Lease4 } from '../lease/lease4.ts'
import { identityOf } from '../wire/identity.ts'
import type { Message4 } from '../wire/message4.ts'
import type { Message6 } from '../wire/message6.ts'
import type { Port } from './runner.ts'
import type { LeaseRecord } from './record.ts'
import type { IpText } from '#ip/text.ts'

export const placeOf = ({ netns, netnsId, ifname, index }: LeaseRecord): Place => ({ netns, netnsId, ifname, index })

export function client4(record: LeaseRecord, random: Random, resendMax: number): Client4 {
  const provided = new Map(record.provided.map(([code, hex]) => [code, Buffer.from(hex, 'hex')]))
  return {
    mac: record.mac,
    identity: identityOf(record.key, record.clientId),
    requested: new Set(record.requested),
    provided,
    broadcast: record.broadcast,
    resendMax,
    random,
  }
}

export const client6 = (record: LeaseRecord, random: Random): Client6 => ({
  identity: identityOf(record.key),
  rapidCommit: record.rapidCommit,
  random,
})

export const machine4 = (client: Client4) => ({
  start: (now: number) => start4(client, now),
  resume: (lease: Lease4, now: number) => resume4(client, lease, now),
  timer: (state: Parameters<typeof timer4>[1], now: number) => timer4(client, state, now),
  message: (state: Parameters<typeof message4>[1], message: Message4, now: number) =>
    message4(client, state, message, now),
})

export const machine6 = (client: Client6) => ({
  start: (now: number) => start6(client, now),
  resume: (lease: Parameters<typeof resume6>[1], now: number) => resume6(client, lease, now),
  timer: (state: Parameters<typeof timer6>[1], now: number) => timer6(client, state, now),
  message: (state: Parameters<typeof message6>[1], message: Message6, now: number) =>
    message6(client, state, message, now),
})

export interface Out4 {
  readonly message: Message4
  readonly to: 'broadcast' | IpText
  readonly from: IpText
}

/** Throws `GoneError` or `SysError`. */
export async function openPort4(
  place: Place,
  address: IpText | undefined,
  onMessage: (message: Message4) => void,
  onGarbage: () => void,
): Promise<Port<Out4>> {
  await bringUp(place)
  using pod = openPodLink(place)
  const link = { netns: pod.netns, index: pod.link.index, ifname: pod.link.name }
  const socket = new Socket4(link, address, { onMessage, onGarbage })
  return {
    send: ({ message, to, from }) => socket.send(message, to, from),
    [Symbol.dispose]: () => socket[Symbol.dispose](),
  }
}

/** Throws as `openPort4`, and where the link gets no link-local address. */
export async function openPort6(
  place: Place,
  onMessage: (message: Message6) => void,
  onGarbage: () => void,
): Promise<Port<{ readonly message: Message6 }>> {
  await bringUp(place)
  const own = await linkLocal(place)
  if (own === undefined) throw new Error(`${place.ifname} of ${place.netns} has no usable link-local address`)
  using pod = openPodLink(place)
  const link = { netns: pod.netns, index: pod.link.index, ifname: pod.link.name }
  const socket = new Socket6(link, own, { onMessage, onGarbage })
  return {
    send: ({ message }) => socket.send(message),
    [Symbol.dispose]: () => socket[Symbol.dispose](),
  }
}
