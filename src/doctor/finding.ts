/** What a check of this node found: the evidence, one cause, and the commands that mend it. Texts for people are in the command line's catalogues, by cause. */

/** The checks, in the order in which they are told: what everything else needs comes first. */
export const CHECK_NAMES = [
  'forwarding',
  'bridge-filter',
  'reverse-path',
  'forward-policy',
  'checksum-offload',
  'mac-policy',
  'network-manager',
  'networkd',
  'firewalld',
  'interface',
  'addresses',
  'peers',
  'mtu',
  'bridge-address',
  'conflist',
  'subnet-file',
  'agent',
  'clock',
  'conntrack',
  'neighbours',
  'vxlan-port',
] as const
export type CheckName = (typeof CHECK_NAMES)[number]

/** `unknown`: what the check needs could not be read. */
export type State = 'ok' | 'warning' | 'problem' | 'unknown'

/** What is wrong, and the values that its sentence needs. */
export type Cause =
  | { readonly code: 'forwarding-off'; readonly family: string }
  | { readonly code: 'bridge-filter-missing' }
  | { readonly code: 'bridge-filter-off'; readonly key: string }
  | { readonly code: 'reverse-path-strict'; readonly dev: string }
  | { readonly code: 'forward-drop'; readonly chain: string; readonly network: string }
  | { readonly code: 'checksum-offload-broken'; readonly dev: string; readonly release: string }
  | { readonly code: 'mac-differs'; readonly dev: string; readonly kernel: string; readonly published: string }
  | { readonly code: 'mac-policy-persistent'; readonly file: string }
  | { readonly code: 'managed-by-network-manager' }
  | { readonly code: 'networkd-removes-routes' }
  | { readonly code: 'firewalld-without-pods'; readonly network: string }
  | { readonly code: 'no-default-route' }
  | { readonly code: 'interface-behind-nat'; readonly address: string }
  | { readonly code: 'published-address-missing'; readonly address: string }
  | { readonly code: 'address-shared'; readonly address: string; readonly nodes: string }
  | { readonly code: 'subnet-shared'; readonly subnet: string; readonly nodes: string }
  | { readonly code: 'peer-without-route'; readonly node: string; readonly subnet: string }
  | { readonly code: 'tunnel-mtu-too-large'; readonly dev: string; readonly mtu: string; readonly most: string }
  | { readonly code: 'link-mtu-differs'; readonly dev: string; readonly mtu: string; readonly wanted: string }
  | { readonly code: 'bridge-address-stale'; readonly dev: string; readonly address: string; readonly wanted: string }
  | { readonly code: 'no-conflist'; readonly directory: string }
  | { readonly code: 'conflist-unreadable'; readonly file: string; readonly why: string }
  | { readonly code: 'conflist-shadowed'; readonly file: string; readonly other: string }
  | { readonly code: 'plugin-missing'; readonly type: string; readonly file: string; readonly directory: string }
  | { readonly code: 'subnet-file-missing'; readonly path: string }
  | { readonly code: 'subnet-file-broken'; readonly path: string; readonly why: string }
  | { readonly code: 'subnet-file-stale'; readonly path: string; readonly has: string; readonly wanted: string }
  | { readonly code: 'agent-absent'; readonly socket: string }
  | { readonly code: 'agent-silent'; readonly socket: string }
  | { readonly code: 'clock-differs'; readonly seconds: string }
  | { readonly code: 'conntrack-full'; readonly used: string; readonly most: string }
  | { readonly code: 'neighbours-full'; readonly key: string; readonly used: string; readonly most: string }
  | { readonly code: 'port-taken-by-vmware'; readonly dev: string }

export type CauseCode = Cause['code']

export interface Finding {
  readonly check: CheckName
  readonly state: State
  /** Absent when nothing is wrong. */
  readonly cause?: Cause
  /** What was seen, as commands print it; English. */
  readonly evidence: readonly string[]
  /** To be run as root, in this order. */
  readonly commands: readonly string[]
}

export const fine = (check: CheckName, ...evidence: readonly string[]): Finding => ({
  check,
  state: 'ok',
  evidence,
  commands: [],
})

export const unknown = (check: CheckName, ...evidence: readonly string[]): Finding => ({
  check,
  state: 'unknown',
  evidence,
  commands: [],
})

export const wrong = (
  check: CheckName,
  state: 'warning' | 'problem',
  cause: Cause,
  evidence: readonly string[],
  commands: readonly string[] = [],
): Finding => ({ check, state, cause, evidence, commands })
