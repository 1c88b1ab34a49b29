/** firewalld, asked over the system's message bus: a pod's address is a source of a zone. Like `firewall-cmd --zone=Z --add-source=A`. */

import { join } from 'node:path'

import { ioFailure } from '#cni/errors.ts'
import type { PluginHost } from '#cni/plugin.ts'
import type { CidrText } from '#ip/text.ts'
import { Bus, DbusError, SYSTEM_BUS } from '#sys/dbus/bus.ts'
import type { Value } from '#sys/dbus/wire.ts'

/** Source: firewalld.dbus(5). */
const NAME = 'org.fedoraproject.FirewallD1'
const ZONE = { destination: NAME, path: '/org/fedoraproject/FirewallD1', interface: `${NAME}.zone` }

const openBus = (host: PluginHost): Promise<Bus> => Bus.open(join(host.root, SYSTEM_BUS))

/** Whether it runs; false where there is no message bus. */
export async function hasFirewalld(host: PluginHost): Promise<boolean> {
  try {
    using bus = await openBus(host)
    return await bus.hasOwner(NAME)
  } catch (error) {
    if (error instanceof DbusError) return false
    throw error
  }
}

/** `ZONE_ALREADY_SET` of `ZONE_ALREADY_SET: '10.0.0.2/32' already bound to 'trusted'`. */
const reasonOf = (error: unknown): string =>
  error instanceof DbusError && error.code === 'refused' ? (/^[A-Z_]+/.exec(error.message)?.[0] ?? '') : ''

async function asking<T>(host: PluginHost, work: (ask: Ask) => Promise<T>): Promise<T> {
  try {
    using bus = await openBus(host)
    return await work((member, ...args) => bus.call({ ...ZONE, member, args }))
  } catch (error) {
    if (!(error instanceof DbusError)) throw error
    const remedy = reasonOf(error) === 'INVALID_ZONE' ? ': firewall-cmd --get-zones lists the zones' : ''
    throw ioFailure('firewalld failed', `${error.message}${remedy}`, { cause: error })
  }
}

type Ask = (member: string, ...args: readonly string[]) => Promise<readonly Value[]>

/** Moves addresses into a zone; one that an earlier pod left in another zone moves over. Throws CniError 5. */
export const allowByFirewalld = (host: PluginHost, zone: string, addresses: readonly CidrText[]): Promise<void> =>
  asking(host, async (ask) => {
    for (const address of addresses) {
      try {
        await ask('addSource', zone, address)
      } catch (error) {
        if (reasonOf(error) !== 'ZONE_ALREADY_SET' && reasonOf(error) !== 'ZONE_CONFLICT') throw error
        await ask('changeZoneOfSource', zone, address)
      }
    }
  })

const GONE: ReadonlySet<string> = new Set(['NOT_ENABLED', 'UNKNOWN_SOURCE', 'INVALID_ZONE', 'ZONE_CONFLICT'])

/** Where firewalld does not run, its sources are gone. Throws CniError 5, after it has tried all. */
export async function forgetByFirewalld(host: PluginHost, zone: string, addresses: readonly CidrText[]): Promise<void> {
  if (addresses.length === 0 || !(await hasFirewalld(host))) return
  await asking(host, async (ask) => {
    let failure: unknown
    for (const address of addresses) {
      try {
        await ask('removeSource', zone, address)
      } catch (error) {
        if (!GONE.has(reasonOf(error))) failure ??= error
      }
    }
    if (failure !== undefined) throw failure
  })
}

/** The address that is not in the zone. Throws CniError 5. */
export const missingByFirewalld = (
  host: PluginHost,
  zone: string,
  addresses: readonly CidrText[],
): Promise<string | undefined> =>
  asking(host, async (ask) => {
    for (const address of addresses) {
      const [isThere] = await ask('querySource', zone, address)
      if (isThere !== true) return `${address} is not in the zone ${zone} of firewalld any more`
    }
    return undefined
  })
