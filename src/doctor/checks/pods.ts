/** What pods are attached by: bridge, sizes, configuration, plugins. */

import { parseCidr, parseIpNet, contains, containsCidr, tryParseCidr } from '#ip/prefix.ts'
import { nameOf, linkNamed, ownNode, podNetworks, type Facts } from '../facts.ts'
import { fine, unknown, wrong, type Finding } from '../finding.ts'
import { overheadOf, tunnels } from '../tunnels.ts'

const BRIDGE = 'cni0'

/** Tunnels that say more than fits their underlay, and a bridge that says more than its tunnel. */
export function mtu(facts: Facts): readonly Finding[] {
  const found = [...tunnelSizes(facts), ...bridgeSize(facts)]
  const wrongOnes = found.filter(({ state }) => state !== 'ok')
  if (wrongOnes.length > 0) return wrongOnes
  return found.length > 0
    ? [fine('mtu', ...found.flatMap(({ evidence }) => evidence))]
    : [unknown('mtu', 'no tunnel and no bridge of pods')]
}

function tunnelSizes(facts: Facts): readonly Finding[] {
  return tunnels(facts).flatMap((tunnel) => {
    const under = tunnel.info?.kind === 'vxlan' ? nameOf(facts, tunnel.info.data?.link) : defaultDevice(facts)
    const underlay = under === undefined ? undefined : linkNamed(facts, under)
    const overhead = overheadOf(tunnel, isOverV6(tunnel.info))
    if (underlay === undefined || overhead === undefined) return []
    const most = underlay.mtu - overhead
    const evidence = `${tunnel.name}: mtu ${tunnel.mtu}; ${underlay.name}: mtu ${underlay.mtu} - ${overhead} = ${most}`
    if (tunnel.mtu <= most) return [fine('mtu', evidence)]
    const cause = {
      code: 'tunnel-mtu-too-large',
      dev: tunnel.name,
      mtu: String(tunnel.mtu),
      most: String(most),
    } as const
    return [wrong('mtu', 'problem', cause, [evidence], [`ip link set ${tunnel.name} mtu ${most}`])]
  })
}

const isOverV6 = (info: { readonly kind: string; readonly data?: unknown } | undefined): boolean =>
  info?.kind === 'vxlan' &&
  typeof info.data === 'object' &&
  info.data !== null &&
  String(Reflect.get(info.data, 'local') ?? '').includes(':')

const defaultDevice = (facts: Facts): string | undefined =>
  nameOf(facts, facts.routes.find(({ dst, table }) => dst === '0.0.0.0/0' && table === 254)?.oif)

function bridgeSize(facts: Facts): readonly Finding[] {
  const { content } = facts.subnetFile
  const bridge = linkNamed(facts, BRIDGE)
  if (bridge === undefined || typeof content !== 'object') return []
  const evidence = `${BRIDGE}: mtu ${bridge.mtu}; ${facts.subnetFile.path}: ${content.mtu}`
  if (bridge.mtu <= content.mtu) return [fine('mtu', evidence)]
  const cause = { code: 'link-mtu-differs', dev: BRIDGE, mtu: String(bridge.mtu), wanted: String(content.mtu) } as const
  return [wrong('mtu', 'problem', cause, [evidence], [`ip link set ${BRIDGE} mtu ${content.mtu}`])]
}

/** A bridge of a former network keeps its address, and the plugin refuses to work with it. */
export function bridgeAddress(facts: Facts): readonly Finding[] {
  const bridge = linkNamed(facts, BRIDGE)
  if (bridge === undefined) return [fine('bridge-address', `no ${BRIDGE} yet`)]
  const { content } = facts.subnetFile
  if (typeof content !== 'object') return [unknown('bridge-address', 'the subnet of this node is not known')]
  const subnets = content.subnets.map(parseCidr)
  const stale = facts.addrs
    .filter(({ index, scope }) => index === bridge.index && scope !== 'link')
    .filter(({ address }) => !subnets.some((subnet) => contains(subnet, parseIpNet(address).ip)))
  if (stale.length === 0) return [fine('bridge-address', `${BRIDGE} lies in ${content.subnets.join(', ')}`)]
  const hasPods = facts.links.some(({ master }) => master === bridge.index)
  return stale.map(({ address }) => {
    const cause = { code: 'bridge-address-stale', dev: BRIDGE, address, wanted: content.subnets.join(', ') } as const
    const command = hasPods ? `ip address delete ${address} dev ${BRIDGE}` : `ip link delete ${BRIDGE}`
    return wrong(
      'bridge-address',
      'problem',
      cause,
      [`${BRIDGE}: ${address}`, ...(hasPods ? ['it has ports'] : ['it has no ports'])],
      [command],
    )
  })
}

/** Runtimes take the first file by name; every plugin that it names must be installed. */
export function conflist({ confs, plugins }: Facts): readonly Finding[] {
  const { directory, files } = confs
  const [first, second] = files
  if (first === undefined)
    return [
      wrong('conflist', 'problem', { code: 'no-conflist', directory }, [
        `${directory}: no *.conflist, *.conf or *.json`,
      ]),
    ]
  if (first.error !== undefined) {
    const cause = { code: 'conflist-unreadable', file: first.file, why: first.error } as const
    return [wrong('conflist', 'problem', cause, [`${first.file}: ${first.error}`])]
  }
  const missing = first.types.filter((type) => !plugins.types.has(type)).join(', ')
  if (missing !== '') {
    const cause = { code: 'plugin-missing', type: missing, file: first.file, directory: plugins.directory } as const
    const seen = [`${first.file}: ${first.types.join(', ')}`, `not in ${plugins.directory}: ${missing}`]
    return [wrong('conflist', 'problem', cause, seen)]
  }
  const evidence = [`${first.file}: ${first.types.join(', ')}`]
  if (second === undefined) return [fine('conflist', ...evidence)]
  const cause = { code: 'conflist-shadowed', file: first.file, other: second.file } as const
  return [
    wrong(
      'conflist',
      'warning',
      cause,
      [
        ...evidence,
        `also there: ${files
          .slice(1)
          .map(({ file }) => file)
          .join(', ')}`,
      ],
      [`mv ${directory}/${second.file} ${directory}/${second.file}.unused`],
    ),
  ]
}

/** What the agent tells the flannel plugin, against what the Node says. */
export function subnetFile(facts: Facts): readonly Finding[] {
  const { path, content } = facts.subnetFile
  if (content === undefined)
    return [wrong('subnet-file', 'problem', { code: 'subnet-file-missing', path }, [`${path}: no such file`])]
  if (typeof content === 'string')
    return [
      wrong('subnet-file', 'problem', { code: 'subnet-file-broken', path, why: content }, [`${path}: ${content}`]),
    ]
  const evidence = `${path}: ${content.subnets.join(', ')} of ${podNetworks(facts).join(', ')}, mtu ${content.mtu}`
  const own = ownNode(facts)
  if (own === undefined || own.podCidrs.length === 0) return [fine('subnet-file', evidence)]
  const cidrs = own.podCidrs.flatMap((text) => tryParseCidr(text) ?? [])
  const stale = content.subnets.find((subnet) => !cidrs.some((cidr) => containsCidr(cidr, parseCidr(subnet))))
  if (stale === undefined) return [fine('subnet-file', evidence)]
  const wanted = own.podCidrs.join(', ')
  return [
    wrong('subnet-file', 'problem', { code: 'subnet-file-stale', path, has: stale, wanted }, [
      evidence,
      `this Node has ${wanted}`,
    ]),
  ]
}

/** Pods can be made without the agent, but nobody follows the cluster. */
export function agent({ agent: { socket, state } }: Facts): readonly Finding[] {
  if (state === 'answers') return [fine('agent', `${socket} answers`)]
  const code = state === 'absent' ? 'agent-absent' : 'agent-silent'
  return [
    wrong('agent', state === 'absent' ? 'warning' : 'problem', { code, socket }, [
      state === 'absent' ? `${socket}: no such socket` : `${socket}: nobody answers`,
    ]),
  ]
}
