/** The chained plugin sbr, source based routing: what a pod sends from an interface's address leaves by that interface. Contract: the reference plugin's configuration. */

import { invalidConfig, joinErrors, messageOf } from '#cni/errors.ts'
import type { GcInput, Plugin, PluginHost, PluginInput } from '#cni/plugin.ts'
import type { IpConfig, Result } from '#cni/result.ts'
import { specVersions } from '#cni/version.ts'
import { checkFailed } from '#ipam/check-failed.ts'
import { parseCidr } from '#ip/prefix.ts'
import { formatIp } from '#ip/address.ts'
import type { IpText } from '#ip/text.ts'
import { listAddrs } from '#netlink/addr.ts'
import { findLink } from '#netlink/link.ts'
import type { Link } from '#netlink/link-codec.ts'
import type { Message } from '#netlink/message.ts'
import { listRoutes, routeMessage } from '#netlink/route.ts'
import type { Route, SeenRoute } from '#netlink/route-codec.ts'
import { RT_TABLE } from '#netlink/route-names.ts'
import { listRules, ruleMessage, type SeenRule } from '#netlink/rule.ts'
import { hasCode, type ErrnoName } from '#sys/errno.ts'
import { HEDDLE_PROTOCOL } from '#state/protocol.ts'
import { ipOf } from '../link/configure.ts'
import { openPod, type Pod } from '../link/pod.ts'
import { lockPod } from '../link/pod-lock.ts'
import { forStalePods, podOf } from '../link/recorded-pod.ts'
import { all, undoing } from '../link/undo.ts'
import { sbrConf } from './config.ts'
import { DEFAULT, freeTable, gatewaysOf, routingOf } from './routing.ts'

const TYPE = 'sbr'

export const sbr: Plugin = { type: TYPE, versions: specVersions, add, del, check, status, gc }

/** Throws CniError 7 when the plugin is not chained behind one that gives the interface an address. */
function previous({ prevResult, ifname }: PluginInput): readonly [Result, readonly IpConfig[]] {
  if (prevResult === undefined)
    throw invalidConfig('sbr must be called as a chained plugin', 'put it after macvlan or another plugin in the list')
  const ips = addressesOf(prevResult, ifname)
  if (ips.length > 0) return [prevResult, ips]
  throw invalidConfig(`the previous result has no address for ${ifname}`, 'sbr chooses by addresses: use an "ipam"')
}

/** Those of the interface, and those that belong to none. */
const addressesOf = ({ interfaces, ips }: Result, ifname: string): readonly IpConfig[] =>
  ips.filter(({ interface: at }) => {
    if (at === undefined) return true
    const link = interfaces[at]
    return link?.name === ifname && link.sandbox !== undefined && link.sandbox !== ''
  })

async function add(input: PluginInput, host: PluginHost): Promise<Result> {
  const [result, ips] = previous(input)
  const conf = sbrConf(input)
  using pod = openPod(input.netns)
  const { netlink } = pod
  using _lock = await lockPod(pod)
  return await undoing(host, async (undo) => {
    const link = findLink(netlink, input.ifname)
    if (link === undefined) throw invalidConfig(`there is no interface ${input.ifname} in ${pod.path}`)
    const present = listRoutes(netlink)
    const table = conf.table ?? freeTable(listRules(netlink), present)
    const { rules, routes, removed } = routingOf(conf, table, link.index, ips, present)
    host.failpoint('sbr.chosen')
    undo.add('rules', () =>
      send(
        pod,
        rules.map((rule) => ruleMessage('delete', rule)),
        GONE,
      ),
    )
    send(
      pod,
      rules.map((rule) => ruleMessage('add', rule)),
      THERE,
    )
    host.failpoint('sbr.ruled')
    undo.add('routes', () =>
      send(
        pod,
        routes.map((route) => routeMessage('delete', route)),
        GONE,
      ),
    )
    putRoutes(pod, routes, input)
    host.failpoint('sbr.routed')
    undo.add('routes of the main table', () =>
      send(
        pod,
        removed.map((route) => routeMessage('append', route)),
        THERE,
      ),
    )
    send(
      pod,
      removed.map((route) => routeMessage('delete', route)),
      GONE,
    )
    host.failpoint('sbr.moved')
    return Promise.resolve(result)
  })
}

const THERE = ['EEXIST'] as const
const GONE = ['ENOENT', 'ESRCH', 'ENODEV'] as const

/** All of them, whatever becomes of one; then throws the first error that is not among the harmless. */
function send({ netlink }: Pod, messages: readonly Message[], harmless: readonly ErrnoName[]): void {
  const failed = netlink.batch(messages).find((error) => error !== undefined && !hasCode(error, ...harmless))
  if (failed !== undefined) throw failed
}

/** Throws CniError 7 for a gateway that nothing leads to. */
function putRoutes(pod: Pod, routes: readonly Route[], { config, ifname }: PluginInput): void {
  try {
    send(
      pod,
      routes.map((route) => routeMessage('append', route)),
      THERE,
    )
  } catch (error) {
    if (!hasCode(error, 'ENETUNREACH', 'EHOSTUNREACH', 'EINVAL')) throw error
    const what = `network ${JSON.stringify(config.name)}: ${ifname} in ${pod.path} cannot have a route`
    throw invalidConfig(what, `${messageOf(error)}; are the gateways in its subnets?`, { cause: error })
  }
}

/** The rules go, and what is in their table by this interface: the interface itself goes next. Needs neither interface nor result. */
async function del(input: PluginInput, host: PluginHost): Promise<void> {
  host.failpoint('sbr.remove')
  using pod = podOf(input, host, TYPE)
  if (pod !== undefined) {
    const known = input.prevResult === undefined ? [] : addressesOf(input.prevResult, input.ifname)
    await clear(
      pod,
      input.ifname,
      known.map(({ address }) => ipOf(address)),
    )
  }
  host.failpoint('sbr.removed')
}

async function clear(pod: Pod, ifname: string, known: readonly IpText[]): Promise<void> {
  const { netlink } = pod
  using _lock = await lockPod(pod)
  const link = findLink(netlink, ifname)
  const addrs = listAddrs(netlink)
  const present = new Set(addrs.map(({ address }) => ipOf(address)))
  const own = new Set([
    ...known,
    ...addrs.filter(({ index }) => index === link?.index).map(({ address }) => ipOf(address)),
  ])
  const rules = listRules(netlink).filter((rule) => {
    const ip = sourceOf(rule)
    if (ip === undefined) return false
    // An address that no interface has any more: of one that is gone already.
    return own.has(ip) || (rule.protocol === HEDDLE_PROTOCOL && !present.has(ip))
  })
  const tables = new Set(rules.map(({ table }) => table))
  const routes =
    link === undefined ? [] : listRoutes(netlink, { oif: link.index }).filter(({ table }) => tables.has(table))
  send(
    pod,
    routes.map((route) => routeMessage('delete', route)),
    GONE,
  )
  send(
    pod,
    rules.map((rule) => ruleMessage('delete', rule)),
    GONE,
  )
}

/** The address of a rule such as sbr makes. */
function sourceOf({ from, to, table, action, mark, iif, oif }: SeenRule): IpText | undefined {
  if (from === undefined || action !== 'table' || table === undefined) return undefined
  if (to !== undefined || mark !== undefined || iif !== undefined || oif !== undefined) return undefined
  const isShared = table === RT_TABLE.MAIN || table === RT_TABLE.LOCAL || table === RT_TABLE.DEFAULT
  const { ip, length } = parseCidr(from)
  return isShared || length !== (ip.family === 4 ? 32 : 128) ? undefined : formatIp(ip)
}

async function check(input: PluginInput): Promise<void> {
  const [, ips] = previous(input)
  const conf = sbrConf(input)
  using pod = openPod(input.netns)
  const link = findLink(pod.netlink, input.ifname)
  if (link === undefined) throw checkFailed(`there is no interface ${input.ifname} in ${pod.path}`)
  const rules = listRules(pod.netlink)
  const routes = listRoutes(pod.netlink, { oif: link.index })
  for (const { address } of ips) {
    const ip = ipOf(address)
    const rule = rules.find((one) => sourceOf(one) === ip)
    const wrong = wrongRule(ip, rule, conf.table) ?? wrongTable(rule?.table, link, routes, gatewaysOf(conf, ips))
    if (wrong !== undefined) throw checkFailed(`${pod.path}: ${wrong}`)
  }
}

function wrongRule(ip: IpText, rule: SeenRule | undefined, table: number | undefined): string | undefined {
  if (rule === undefined) return `no rule says where packets from ${ip} go`
  return table === undefined || rule.table === table
    ? undefined
    : `packets from ${ip} are looked up in table ${rule.table}, not ${table}`
}

function wrongTable(
  table: number | undefined,
  { name }: Link,
  routes: readonly SeenRoute[],
  gateways: ReadonlyMap<4 | 6, IpText>,
): string | undefined {
  const own = routes.filter((route) => route.table === table)
  if (own.length === 0) return `table ${table} has no route by ${name}`
  const isThere = ([family, gateway]: readonly [4 | 6, IpText]): boolean =>
    own.some((route) => route.dst === DEFAULT[family] && route.gateway === gateway)
  const missing = gateways.entries().find((one) => !isThere(one))
  return missing === undefined ? undefined : `table ${table} has no default route via ${missing[1]}`
}

async function status(input: PluginInput): Promise<void> {
  sbrConf(input)
}

async function gc(input: GcInput, host: PluginHost): Promise<void> {
  const parts = forStalePods(input, host, TYPE, (pod, { ifname }) => clear(pod, ifname, []))
  const joined = joinErrors(await all(parts))
  if (joined !== undefined) throw joined
}
