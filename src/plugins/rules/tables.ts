/** The tables of nftables whose elements belong to attachments. */

import type { RulesNote } from '#cni/attachment/record.ts'
import type { NetlinkSocket } from '#netlink/socket.ts'
import { listTables } from '#nft/list.ts'
import { sameTableRef, type Table, type TableRef } from '#nft/table.ts'
import { firewallTable, isolationTable } from '../firewall/tables.ts'
import { hostPortTable, TABLE_NAME } from './host-ports.ts'
import { masqueradeTable } from './masquerade.ts'
import { serviceTable } from './services.ts'
import { spoofTable } from './spoof-check.ts'

const fixed: readonly Table[] = [firewallTable, isolationTable, masqueradeTable, serviceTable, spoofTable]

const isHostPorts = ({ family, name }: TableRef): boolean => family === 'inet' && name.startsWith(TABLE_NAME)

export const isOwnedTable = (table: TableRef): boolean =>
  isHostPorts(table) || fixed.some((one) => sameTableRef(one, table))

/** The model of a table as far as its sets go; the rules of host ports with conditions are not in it. */
export function modelOf(table: TableRef): Table | undefined {
  if (isHostPorts(table)) return { ...hostPortTable({ v4: '', v6: '' }), name: table.name }
  return fixed.find((one) => sameTableRef(one, table))
}

/** The whole model that a note was made with; undefined for a table that this version does not know. */
export function tableOf({ family, table: name, conditions }: RulesNote): Table | undefined {
  const table = isHostPorts({ family, name })
    ? hostPortTable(conditions ?? { v4: '', v6: '' })
    : modelOf({ family, name })
  return table?.name === name ? table : undefined
}

/** Those that exist. */
export const ownedTables = (nft: NetlinkSocket): readonly Table[] =>
  listTables(nft).flatMap(({ family, name }) => modelOf({ family, name }) ?? [])
