/** The vrouter's address translation as rules; a pure function: floating IPs both ways, and the router's own address for who has none. */

import { cidrOf, formatCidr, parseIpNet } from '#ip/prefix.ts'
import { formatIp } from '#ip/address.ts'
import { hookPriority, type Rule, type Table } from '#nft/table.ts'
import type { Database } from './database.ts'
import type { Wiring } from './wiring.ts'

/** In the router's namespace: `nft list table ip neutron_l3`. */
export const NAT = { family: 'ip', name: 'neutron_l3' } as const

const rule = (text: string, reason: string): Rule => ({ text, owner: 'vrouter', reason })

/** Empty chains when the router has no gateway. */
export function natTable(database: Database, { legs }: Wiring): Table {
  const outer = legs.find(({ name }) => name.startsWith('qg-'))
  const inner = legs.filter((leg) => leg !== outer)
  const own = outer?.addresses[0] === undefined ? undefined : formatIp(parseIpNet(outer.addresses[0]).ip)
  const floating = database.floatingIps.flatMap((one) =>
    outer === undefined || one.router_id !== database.router?.id || one.fixed_ip_address === undefined
      ? []
      : [{ floating: one.floating_ip_address, fixed: one.fixed_ip_address }],
  )
  return {
    ...NAT,
    sets: [],
    chains: [
      {
        name: 'to_floating',
        base: { type: 'nat', hook: 'prerouting', priority: hookPriority.dstnat },
        rules: floating.map((one) =>
          rule(`ip daddr ${one.floating} dnat to ${one.fixed}`, `floating IP ${one.floating}`),
        ),
      },
      {
        name: 'to_outside',
        base: { type: 'nat', hook: 'postrouting', priority: hookPriority.srcnat },
        rules:
          outer === undefined || own === undefined
            ? []
            : [
                ...floating.map((one) =>
                  rule(
                    `oifname "${outer.name}" ip saddr ${one.fixed} snat to ${one.floating}`,
                    `floating IP ${one.floating}`,
                  ),
                ),
                rule(`oifname "${outer.name}" snat to ${own}`, 'gateway'),
                // Who asks for a neighbour by its floating IP must hear the answer from there too.
                ...inner.map((leg) =>
                  rule(
                    `oifname "${leg.name}" ct status dnat ip saddr { ${inner.flatMap(networks).join(', ')} } snat to ${own}`,
                    'floating IPs from inside',
                  ),
                ),
              ],
      },
    ],
  }
}

const networks = ({ addresses }: Wiring['legs'][number]): string[] =>
  addresses.map((address) => {
    const { ip, length } = parseIpNet(address)
    return formatCidr(cidrOf(ip, length))
  })
