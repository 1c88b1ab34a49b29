/** Which of Neutron's ports the card of this host is. */

import { messageOf } from '#cni/errors.ts'
import { OpenStackError, isCode } from '#openstack/errors.ts'
import type { Port } from '#openstack/neutron/port.ts'
import type { CloudApi } from './cloud.ts'
import type { Lookup, NeutronConf } from './config.ts'
import type { HostCard } from './host-card.ts'
import { MetadataError, portOfMac } from './metadata.ts'

/** No way led to a port; the message says what each found. */
export class LookupError extends Error {
  override readonly name = 'LookupError'
  readonly code = 'no-port'
}

export interface LookupOptions {
  readonly conf: Pick<NeutronConf, 'portId' | 'portLookup' | 'metadataUrl'>
  readonly api: CloudApi
  readonly card: HostCard
  readonly signal: AbortSignal
}

/** Tried in order; the first port that has the card's MAC address is it. @throws LookupError; OpenStackError where Neutron gives no answer */
export async function findPort(options: LookupOptions): Promise<Port> {
  const { card, conf } = options
  const found: string[] = []
  for (const way of conf.portLookup) {
    const ports = await lookUp(way, options, found)
    const [port, other] = ports.filter(({ mac_address: mac }) => mac === card.mac)
    if (port !== undefined && other === undefined) return port
    const wrong = ports.map(({ id, mac_address: mac }) => `${id} (${mac})`)
    if (other !== undefined) found.push(`${way}: ${wrong.length} ports have ${card.mac}`)
    else if (wrong.length > 0)
      found.push(`${way}: ${wrong.slice(0, 4).join(', ')}, but ${card.interface} has ${card.mac}`)
  }
  throw new LookupError(
    `no port of Neutron is found for ${card.interface} (${card.mac}; ${card.addresses.join(', ') || 'no address'}): ${found.join('; ')}. ` +
      'Name it with portId, check that the credential belongs to the project of the VM, or use validity "port" where this host is no VM of the cloud',
  )
}

async function lookUp(way: Lookup, options: LookupOptions, found: string[]): Promise<readonly Port[]> {
  const { api, card, conf, signal } = options
  switch (way) {
    case 'config':
      if (conf.portId !== '') return byId(conf.portId, way, api, found)
      found.push('config: portId is not set')
      return []
    case 'metadata':
      try {
        const id = await portOfMac(conf.metadataUrl, card.mac, signal)
        if (id !== undefined) return await byId(id, way, api, found)
        found.push(`metadata: knows no card with ${card.mac}`)
      } catch (error) {
        if (!(error instanceof MetadataError)) throw error
        found.push(`metadata: ${messageOf(error)}`)
      }
      return []
    case 'ip': {
      const ports: Port[] = []
      // Networks of one project may overlap: the MAC address tells which.
      for (const ip of card.addresses.slice(0, 8)) ports.push(...(await api.ports.list({ ip }, await api.turn())))
      if (ports.length === 0) found.push('ip: none has an address of the card')
      return [...new Map(ports.map((port) => [port.id, port])).values()]
    }
    case 'mac': {
      const ports = await api.ports.list({ mac: card.mac }, await api.turn())
      if (ports.length === 0) found.push('mac: none')
      return ports
    }
    default:
      throw new OpenStackError('config', `unknown lookup ${String(way)}`)
  }
}

async function byId(id: string, way: Lookup, api: CloudApi, found: string[]): Promise<readonly Port[]> {
  try {
    return [await api.ports.get(id, await api.turn())]
  } catch (error) {
    if (!isCode(error, 'not-found')) throw error
    found.push(`${way}: port ${id} is not there, or another project's`)
    return []
  }
}
