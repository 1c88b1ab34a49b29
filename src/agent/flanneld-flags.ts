/**
 * flanneld's command line: its flags as Go writes them, its environment, and what they mean for the agent. Source: flannel's main.go, and Go's package flag.
 */

import type { EtcdAgentFlags } from './etcd-options.ts'
import type { AgentFlags } from './options.ts'

const TEXTS = [
  'etcd-endpoints',
  'etcd-prefix',
  'etcd-keyfile',
  'etcd-certfile',
  'etcd-cafile',
  'etcd-username',
  'etcd-password',
  'iface-can-reach',
  'subnet-file',
  'public-ip',
  'public-ipv6',
  'subnet-lease-renew-margin',
  'kube-api-url',
  'kubeconfig-file',
  'kube-annotation-prefix',
  'net-config-path',
  'healthz-ip',
  'healthz-port',
  'iptables-resync',
  'v',
  'vmodule',
  'log_backtrace_at',
  'stderrthreshold',
  'log_dir',
  'log_file',
] as const

const LISTS = ['iface', 'iface-regex'] as const

const SWITCHES = [
  'ip-masq',
  'ip-masq-fully-random-disable',
  'kube-subnet-mgr',
  'set-node-network-unavailable',
  'iptables-forward-rules',
  'ip-blackhole-route',
  'version',
  'help',
  'h',
  'logtostderr',
  'alsologtostderr',
] as const

export type TextFlag = (typeof TEXTS)[number]
type ListFlag = (typeof LISTS)[number]
export type SwitchFlag = (typeof SWITCHES)[number]

export interface FlanneldFlags {
  readonly texts: ReadonlyMap<TextFlag, string>
  readonly lists: ReadonlyMap<ListFlag, readonly string[]>
  readonly switches: ReadonlyMap<SwitchFlag, boolean>
}

/** A flag that flanneld does not have, or that cannot have such a value. */
export class FlanneldFlagError extends Error {
  override readonly name = 'FlanneldFlagError'
  readonly code: 'unknown-flag' | 'bad-value' | 'missing-value'
  readonly flag: string
  readonly remedy: string

  constructor(code: FlanneldFlagError['code'], flag: string, message: string, remedy: string) {
    super(message)
    this.code = code
    this.flag = flag
    this.remedy = remedy
  }
}

const member = <const T extends readonly string[]>(list: T, name: string): T[number] | undefined =>
  list.find((one) => one === name)

/** What strconv.ParseBool takes. */
const TRUTHS = new Map([
  ...['1', 't', 'T', 'true', 'TRUE', 'True'].map((text) => [text, true] as const),
  ...['0', 'f', 'F', 'false', 'FALSE', 'False'].map((text) => [text, false] as const),
])

/**
 * One dash or two, `=` or a blank before the value, switches bare or with `=`; what follows `--` or the first word that is no flag is left out. A flag that is not
 * given is taken from `FLANNELD_<NAME>`. Throws FlanneldFlagError.
 */
export function parseFlanneldFlags(
  args: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
): FlanneldFlags {
  const texts = new Map<TextFlag, string>()
  const lists = new Map<ListFlag, readonly string[]>()
  const switches = new Map<SwitchFlag, boolean>()
  const put = (name: string, value: string | undefined, next: () => string | undefined): void => {
    const flag = member(SWITCHES, name)
    if (flag !== undefined) {
      const truth = value === undefined ? true : TRUTHS.get(value)
      if (truth === undefined) throw badValue(name, value ?? '', 'true or false')
      switches.set(flag, truth)
      return
    }
    const text = member(TEXTS, name)
    const list = member(LISTS, name)
    if (text === undefined && list === undefined) throw unknownFlag(name)
    const given = value ?? next()
    if (given === undefined)
      throw new FlanneldFlagError('missing-value', name, `the flag -${name} has no value`, `write -${name}=VALUE`)
    if (text !== undefined) texts.set(text, given)
    if (list !== undefined) lists.set(list, [...(lists.get(list) ?? []), given])
  }

  for (let i = 0; i < args.length; i++) {
    const word = args[i] ?? ''
    const [, name, , value] = /^--?([^-=][^=]*)(=(.*))?$/s.exec(word) ?? []
    if (name === undefined) break
    put(name, value, () => args[++i])
  }
  for (const name of [...TEXTS, ...LISTS, ...SWITCHES]) {
    const value = env[`FLANNELD_${name.toUpperCase().replaceAll('-', '_')}`]
    const isGiven = [texts, lists, switches].some((map: ReadonlyMap<string, unknown>) => map.has(name))
    if (value !== undefined && value !== '' && !isGiven) put(name, value, () => undefined)
  }
  return { texts, lists, switches }
}

const unknownFlag = (name: string): FlanneldFlagError =>
  new FlanneldFlagError(
    'unknown-flag',
    name,
    `flag provided but not defined: -${name}`,
    'see heddle flanneld -help for those that there are',
  )

const badValue = (name: string, value: string, wish: string): FlanneldFlagError =>
  new FlanneldFlagError(
    'bad-value',
    name,
    `invalid value ${JSON.stringify(value)} for flag -${name}`,
    `it must be ${wish}`,
  )

export const flanneldFlagNames: readonly string[] = [...TEXTS, ...LISTS, ...SWITCHES].toSorted()

/** Minutes that a lease may have left when it is renewed. */
const RENEW_MARGIN = { least: 1, most: 24 * 60 - 1, usual: 60 }

/** The datastore of leases as flanneld chooses it: etcd, unless `kube-subnet-mgr` is given. Throws FlanneldFlagError. */
export function etcdFlagsOf({ texts, switches }: FlanneldFlags): EtcdAgentFlags {
  const margin = texts.get('subnet-lease-renew-margin')
  const minutes = margin === undefined ? RENEW_MARGIN.usual : Number(margin)
  if (!Number.isInteger(minutes) || minutes < RENEW_MARGIN.least || minutes > RENEW_MARGIN.most)
    throw badValue(
      'subnet-lease-renew-margin',
      margin ?? '',
      `minutes from ${RENEW_MARGIN.least} to ${RENEW_MARGIN.most}`,
    )
  if (switches.get('kube-subnet-mgr') === true) return {}
  const [key, cert] = [textOf(texts, 'etcd-keyfile'), textOf(texts, 'etcd-certfile')]
  const isPair = key !== undefined && cert !== undefined
  return {
    etcdEndpoints: textOf(texts, 'etcd-endpoints') ?? 'http://127.0.0.1:4001,http://127.0.0.1:2379',
    etcdPrefix: textOf(texts, 'etcd-prefix'),
    // As with flanneld, one without the other counts as none.
    ...(isPair ? { etcdKeyfile: key, etcdCertfile: cert } : {}),
    etcdCafile: textOf(texts, 'etcd-cafile'),
    etcdUsername: textOf(texts, 'etcd-username'),
    etcdPassword: textOf(texts, 'etcd-password'),
    subnetLeaseRenewMargin: String(minutes),
  }
}

/** The same wishes as flags of the agent, with flanneld's defaults. Throws FlanneldFlagError. */
export function agentFlagsOf(flags: FlanneldFlags): AgentFlags {
  const { texts, lists, switches } = flags
  const verbosity = Number(texts.get('v') ?? 0)
  const port = texts.get('healthz-port') ?? '0'
  if (!/^\d{1,5}$/.test(port) || Number(port) > 65_535) throw badValue('healthz-port', port, 'a port, or 0 for none')
  const host = texts.get('healthz-ip') ?? '0.0.0.0'
  const ifaces = lists.get('iface') ?? []
  return {
    ...etcdFlagsOf(flags),
    kubeconfig: textOf(texts, 'kubeconfig-file'),
    kubeApiUrl: textOf(texts, 'kube-api-url'),
    netConfigPath: textOf(texts, 'net-config-path'),
    ...(ifaces.length === 0 ? {} : { iface: ifaces }),
    ifaceRegex: lists.get('iface-regex'),
    ifaceCanReach: textOf(texts, 'iface-can-reach'),
    publicIp: textOf(texts, 'public-ip'),
    publicIpv6: textOf(texts, 'public-ipv6'),
    ipMasq: switches.get('ip-masq') ?? false,
    ipMasqFullyRandom: !(switches.get('ip-masq-fully-random-disable') ?? false),
    iptablesForwardRules: switches.get('iptables-forward-rules') ?? true,
    iptablesResync: textOf(texts, 'iptables-resync'),
    ipBlackholeRoute: switches.get('ip-blackhole-route') ?? false,
    setNodeNetworkUnavailable: switches.get('set-node-network-unavailable') ?? true,
    kubeAnnotationPrefix: textOf(texts, 'kube-annotation-prefix'),
    subnetFile: textOf(texts, 'subnet-file'),
    healthListen: port === '0' ? undefined : `${host.includes(':') ? `[${host}]` : host}:${port}`,
    logLevel: Number.isFinite(verbosity) && verbosity >= 4 ? 'debug' : 'info',
  }
}

/** An empty text is as good as none, as in Go, where it is the default. */
function textOf(texts: FlanneldFlags['texts'], flag: TextFlag): string | undefined {
  const text = texts.get(flag)
  return text === '' ? undefined : text
}
