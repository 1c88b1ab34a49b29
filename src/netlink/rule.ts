/** Rules: which routing table is asked for which packets. */

import { ipAddress } from '#codec/address.ts'
import { attr, attributes } from '#codec/attributes.ts'
import type { Reader } from '#codec/buffer.ts'
import { be64, cstring, pad, u16, u32, u8 } from '#codec/codec.ts'
import { struct } from '#codec/struct.ts'
import { formatIp } from '#ip/address.ts'
import { parseCidr } from '#ip/prefix.ts'
import type { CidrText, Family } from '#ip/text.ts'
import { AF } from '#sys/constants.ts'
import { NLM_F, RTM } from './constants.ts'
import type { Message } from './message.ts'
import { names } from './names.ts'
import { RT_TABLE } from './route-names.ts'
import type { NetlinkSocket } from './socket.ts'

const fibRuleHeader = struct('fib_rule_hdr', {
  family: u8,
  dstLength: u8,
  srcLength: u8,
  tos: u8,
  table: u8,
  _res: pad(2),
  action: u8,
  flags: u32,
})

const portRange = struct('fib_rule_port_range', { start: u16, end: u16 })

/** FRA_*. */
const ruleAttributes = attributes('rule', {
  dst: attr(1, ipAddress),
  src: attr(2, ipAddress),
  iif: attr(3, cstring(16)),
  goto: attr(4, u32),
  priority: attr(6, u32),
  mark: attr(10, u32),
  tunnelId: attr(12, be64),
  suppressGroup: attr(13, u32),
  suppressPrefixLength: attr(14, u32),
  table: attr(15, u32),
  mask: attr(16, u32),
  oif: attr(17, cstring(16)),
  l3mdev: attr(19, u8),
  uidRange: attr(20, struct('fib_rule_uid_range', { start: u32, end: u32 })),
  protocol: attr(21, u8),
  ipProtocol: attr(22, u8),
  sourcePorts: attr(23, portRange),
  destinationPorts: attr(24, portRange),
})

/** FR_ACT_*; `table` means a lookup. */
const actions = names({ unspec: 0, table: 1, goto: 2, nop: 3, blackhole: 6, unreachable: 7, prohibit: 8 })
export type RuleAction = ReturnType<typeof actions.nameOf>

const FIB_RULE_INVERT = 2
const NO_SUPPRESS = 0xffff_ffff

/** A rule. Names, not indexes, say which devices it is about: it outlives them. */
export interface Rule {
  readonly family: Family
  readonly priority?: number | undefined
  readonly from?: CidrText | undefined
  readonly to?: CidrText | undefined
  readonly table?: number | undefined
  readonly mark?: number | undefined
  readonly mask?: number | undefined
  readonly iif?: string | undefined
  readonly oif?: string | undefined
  /** A lookup unless given. */
  readonly action?: RuleAction | undefined
  readonly goto?: number | undefined
  /** Applies to what does not match (`not`). */
  readonly invert?: boolean | undefined
  readonly tos?: number | undefined
  readonly ipProtocol?: number | undefined
  readonly sourcePorts?: { readonly start: number; readonly end: number } | undefined
  readonly destinationPorts?: { readonly start: number; readonly end: number } | undefined
  /** Ignore answers with prefixes of at most this length. */
  readonly suppressPrefixLength?: number | undefined
  readonly l3mdev?: boolean | undefined
  /** Who made it (FRA_PROTOCOL, as RTPROT_*). */
  readonly protocol?: number | undefined
}

export interface SeenRule extends Rule {
  readonly priority: number
  readonly action: RuleAction
}

/** Like `ip rule add` and `ip rule delete`. */
export function ruleMessage(verb: 'add' | 'delete', rule: Rule): Message {
  return {
    op: () => `rule ${verb} ${describe(rule)}`,
    type: verb === 'add' ? RTM.NEWRULE : RTM.DELRULE,
    flags: verb === 'add' ? NLM_F.CREATE | NLM_F.EXCL : 0,
    write(w) {
      const from = rule.from === undefined ? undefined : parseCidr(rule.from)
      const to = rule.to === undefined ? undefined : parseCidr(rule.to)
      const table = rule.table ?? RT_TABLE.UNSPEC
      fibRuleHeader.write(w, {
        family: rule.family === 4 ? AF.INET : AF.INET6,
        dstLength: to?.length ?? 0,
        srcLength: from?.length ?? 0,
        tos: rule.tos ?? 0,
        table: table < 256 ? table : RT_TABLE.UNSPEC,
        action: actions.valueOf(rule.action ?? 'table'),
        flags: rule.invert === true ? FIB_RULE_INVERT : 0,
      })
      ruleAttributes.write(w, {
        priority: rule.priority,
        dst: to === undefined || to.length === 0 ? undefined : formatIp(to.ip),
        src: from === undefined || from.length === 0 ? undefined : formatIp(from.ip),
        table: table === RT_TABLE.UNSPEC ? undefined : table,
        mark: rule.mark,
        mask: rule.mask,
        iif: rule.iif,
        oif: rule.oif,
        goto: rule.goto,
        ipProtocol: rule.ipProtocol,
        sourcePorts: rule.sourcePorts,
        destinationPorts: rule.destinationPorts,
        suppressPrefixLength: rule.suppressPrefixLength,
        l3mdev: rule.l3mdev === true ? 1 : undefined,
        protocol: rule.protocol,
      })
    },
  }
}

function describe(rule: Rule): string {
  const mark = rule.mark === undefined ? '' : ` fwmark 0x${rule.mark.toString(16)}`
  return `${rule.priority ?? ''} from ${rule.from ?? 'all'} to ${rule.to ?? 'all'}${mark} lookup ${rule.table ?? 0}`.trim()
}

/** Reads RTM_NEWRULE or RTM_DELRULE; undefined for families other than IPv4 and IPv6. */
export function readRule(payload: Reader): SeenRule | undefined {
  const header = fibRuleHeader.read(payload)
  if (header.family !== AF.INET && header.family !== AF.INET6) return undefined
  const a = ruleAttributes.read(payload)
  const table = a.table ?? header.table
  const rule: { -readonly [K in keyof SeenRule]: SeenRule[K] } = {
    family: header.family === AF.INET ? 4 : 6,
    priority: a.priority ?? 0,
    action: actions.nameOf(header.action),
  }
  if (a.src !== undefined) rule.from = `${a.src}/${header.srcLength}` as CidrText
  if (a.dst !== undefined) rule.to = `${a.dst}/${header.dstLength}` as CidrText
  if (table !== 0) rule.table = table
  if (a.mark !== undefined) rule.mark = a.mark
  if (a.mask !== undefined) rule.mask = a.mask
  if (a.iif !== undefined) rule.iif = a.iif
  if (a.oif !== undefined) rule.oif = a.oif
  if (a.goto !== undefined) rule.goto = a.goto
  if ((header.flags & FIB_RULE_INVERT) !== 0) rule.invert = true
  if (header.tos !== 0) rule.tos = header.tos
  if (a.ipProtocol !== undefined) rule.ipProtocol = a.ipProtocol
  if (a.sourcePorts !== undefined) rule.sourcePorts = a.sourcePorts
  if (a.destinationPorts !== undefined) rule.destinationPorts = a.destinationPorts
  if (a.suppressPrefixLength !== undefined && a.suppressPrefixLength !== NO_SUPPRESS) {
    rule.suppressPrefixLength = a.suppressPrefixLength
  }
  if (a.l3mdev === 1) rule.l3mdev = true
  if (a.protocol !== undefined) rule.protocol = a.protocol
  return rule
}

/** Like `ip rule show` and `ip -6 rule show`, in the order of their priority. */
export function listRules(socket: NetlinkSocket, family?: Family): SeenRule[] {
  const message: Message = {
    op: () => 'rule show',
    type: RTM.GETRULE,
    flags: 0,
    write: (w) =>
      fibRuleHeader.write(w, {
        family: family === undefined ? AF.UNSPEC : family === 4 ? AF.INET : AF.INET6,
        dstLength: 0,
        srcLength: 0,
        tos: 0,
        table: 0,
        action: 0,
        flags: 0,
      }),
  }
  return socket.dump(message, readRule)
}

/** Like `ip rule add`. Throws `NetlinkError` EEXIST when the same one is there. */
export const addRule = (socket: NetlinkSocket, rule: Rule): void => socket.request(ruleMessage('add', rule))

/** Like `ip rule delete`. Throws `NetlinkError` ENOENT when there is none. */
export const deleteRule = (socket: NetlinkSocket, rule: Rule): void => socket.request(ruleMessage('delete', rule))
