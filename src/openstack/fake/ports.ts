import { tryParseIpNet } from '#ip/prefix.ts'
import { allocate, changesOf, shown, type Asked, type Changes } from './addresses.ts'
import {
  baseView,
  checkRevision,
  entryOf,
  isRecord,
  listIn,
  onlyKnown,
  sees,
  textIn,
  type Answer,
  type Ask,
  type Context,
} from './context.ts'
import { badInput, neutron, notFound, overQuota } from './failure.ts'
import { listing } from './listing.ts'
import { newMac, type FakePort, type Fixed, type Pair } from './model.ts'

const KNOWN = [
  'name', 'description', 'network_id', 'mac_address', 'fixed_ips', 'allowed_address_pairs', 'security_groups',
  'port_security_enabled', 'admin_state_up', 'device_id', 'device_owner', 'binding:host_id', 'tags', 'project_id', 'tenant_id',
] // prettier-ignore

type Entry = { readonly [name: string]: unknown }

export function portView(port: FakePort, admin: boolean): { readonly [key: string]: unknown } {
  return {
    ...baseView(port),
    network_id: port.network,
    mac_address: port.mac,
    fixed_ips: shown(port.fixed),
    allowed_address_pairs: port.pairs,
    port_security_enabled: port.security,
    security_groups: port.groups,
    admin_state_up: port.up,
    status: port.host === '' ? 'DOWN' : 'ACTIVE',
    device_id: port.device,
    device_owner: port.owner,
    'binding:vnic_type': 'normal',
    extra_dhcp_opts: [],
    ...(admin ? { 'binding:host_id': port.host, 'binding:vif_type': port.host === '' ? 'unbound' : 'ovs' } : {}),
  }
}

const asked = (entry: Entry): readonly Asked[] | undefined =>
  listIn(entry, 'fixed_ips')?.map((one) => ({
    subnet_id: textIn(one, 'subnet_id'),
    ip_address: textIn(one, 'ip_address'),
  }))

function pairsOf(context: Context, entry: Entry, mac: string, security: boolean): readonly Pair[] | undefined {
  const list = listIn(entry, 'allowed_address_pairs')
  if (list === undefined) return undefined
  const max = context.options.maxPairs ?? 10
  const pairs = list.map((one) => ({ ip: textIn(one, 'ip_address') ?? '', mac: textIn(one, 'mac_address') }))
  const wrong = pairs.find(
    ({ ip }) => tryParseIpNet(ip.includes('/') ? ip : `${ip}/${ip.includes(':') ? 128 : 32}`) === undefined,
  )
  if (wrong !== undefined) {
    throw badInput(`Invalid input for allowed_address_pairs. Reason: '${wrong.ip}' is not a valid IP subnet.`)
  }
  if (pairs.length > max) {
    throw neutron(400, 'AllowedAddressPairExhausted', `The number of allowed address pair exceeds the maximum ${max}.`)
  }
  const twice = pairs.find(
    (one, index) => pairs.findIndex((other) => other.ip === one.ip && other.mac === one.mac) !== index,
  )
  if (twice !== undefined) {
    const message = `Request contains duplicate address pair: mac_address ${twice.mac ?? 'None'} ip_address ${twice.ip}.`
    throw neutron(400, 'DuplicateAddressPairInRequest', message)
  }
  if (pairs.length > 0 && !security) {
    const message = 'Port Security must be enabled in order to have allowed address pairs on a port.'
    throw neutron(409, 'AddressPairAndPortSecurityRequired', message)
  }
  return pairs.map((one) => ({ ip_address: one.ip, mac_address: one.mac ?? mac }))
}

/** A member may not touch these on a network that another project shares. */
function checkPolicy(context: Context, ask: Ask, entry: Entry, network: string, verb: 'create' | 'update'): void {
  const owner = context.cloud.networks.get(network)?.project
  if (ask.caller.admin || owner === ask.caller.project) return
  const touched = ['fixed_ips', 'allowed_address_pairs', 'mac_address', 'port_security_enabled'].filter(
    (name) => name in entry,
  )
  if (touched.length === 0) return
  const rules = touched.map((name) => `(rule:${verb}_port and rule:${verb}_port:${name})`).join(' and ')
  throw neutron(403, 'PolicyNotAuthorized', `${rules} is disallowed by policy`)
}

/** Adds and takes away at what the port has now, whatever the changes were made against: the union of several writers. */
function applyChanges(context: Context, port: FakePort | undefined, changes: Changes): readonly Fixed[] {
  const { cloud, random } = context
  const gone = new Set(changes.remove.map((fixed) => fixed.ip_address))
  const kept = (port?.fixed ?? []).filter((fixed) => !gone.has(fixed.ip_address))
  return [...kept, ...allocate(changes.add, (subnet) => cloud.taken(subnet), random)]
}

export function makePort(context: Context, ask: Ask, entry: Entry): FakePort {
  const { cloud, clock } = context
  onlyKnown(entry, KNOWN)
  const networkId = textIn(entry, 'network_id') ?? ''
  const network = cloud.networks.get(networkId)
  if (network === undefined || !sees(ask.caller, network, network.shared)) throw notFound('Network', networkId)
  checkPolicy(context, ask, entry, networkId, 'create')
  const project = textIn(entry, 'project_id') ?? ask.caller.project
  const used = [...cloud.ports.values()].filter((port) => port.project === project).length
  const limit = cloud.quotas.get('port') ?? -1
  if (limit >= 0 && used >= limit) throw overQuota('port')
  const subnets = cloud.subnetsOf(networkId)
  // One address of the first subnet of each family, unless it says otherwise.
  const usual = [4, 6].flatMap((family) => subnets.find((subnet) => subnet.family === family)?.id ?? [])
  const wanted = asked(entry) ?? usual.map((subnet_id) => ({ subnet_id }))
  const mac = textIn(entry, 'mac_address') ?? newMac()
  const security = entry['port_security_enabled'] !== false
  const port: FakePort = {
    ...cloud.base(project, textIn(entry, 'name') ?? '', textIn(entry, 'description') ?? '', clock.wall()),
    network: networkId,
    mac,
    fixed: applyChanges(context, undefined, changesOf([], wanted, subnets, networkId)),
    pairs: pairsOf(context, entry, mac, security) ?? [],
    security,
    groups: [],
    up: entry['admin_state_up'] !== false,
    device: textIn(entry, 'device_id') ?? '',
    owner: textIn(entry, 'device_owner') ?? '',
    host: textIn(entry, 'binding:host_id') ?? '',
    byNova: false,
  }
  cloud.ports.set(port.id, port)
  return port
}

async function update(context: Context, ask: Ask, port: FakePort): Promise<Answer> {
  const { cloud, clock, options } = context
  const entry = entryOf(ask.body, 'port')
  onlyKnown(
    entry,
    KNOWN.filter((name) => name !== 'network_id' && name !== 'tags'),
  )
  checkPolicy(context, ask, entry, port.network, 'update')
  checkRevision(port, ask.ifMatch)
  const read = port.fixed
  if ((options.writeMs ?? 0) > 0) await clock.sleep(options.writeMs ?? 0)
  if (!cloud.ports.has(port.id)) throw notFound('Port', port.id)
  const security = typeof entry['port_security_enabled'] === 'boolean' ? entry['port_security_enabled'] : port.security
  const pairs = pairsOf(context, entry, port.mac, security)
  const wanted = asked(entry)
  const before = JSON.stringify(portView(port, true))
  if (wanted !== undefined) {
    port.fixed = applyChanges(context, port, changesOf(read, wanted, cloud.subnetsOf(port.network), port.network))
  }
  port.pairs = pairs ?? port.pairs
  port.security = security
  port.name = textIn(entry, 'name') ?? port.name
  port.device = textIn(entry, 'device_id') ?? port.device
  port.owner = textIn(entry, 'device_owner') ?? port.owner
  port.host = textIn(entry, 'binding:host_id') ?? port.host
  if (typeof entry['admin_state_up'] === 'boolean') port.up = entry['admin_state_up']
  const changed = JSON.stringify(portView(port, true)) !== before
  // What changed nothing shows the old revision, and counts all the same.
  if (changed) port.revision += 1
  const view = portView(port, ask.caller.admin)
  if (!changed) port.revision += 1
  return { status: 200, body: { port: view } }
}

/** `/v2.0/ports…` */
export async function ports(context: Context, ask: Ask): Promise<Answer> {
  const { cloud } = context
  const [, id] = ask.path
  const { admin } = ask.caller
  if (id === undefined) {
    if (ask.method === 'GET') {
      const visible = [...cloud.ports.values()].filter((port) => sees(ask.caller, port))
      return listing(
        ask,
        'ports',
        visible.map((port) => portView(port, admin)),
        context.base(),
      )
    }
    const many = isRecord(ask.body) ? ask.body['ports'] : undefined
    if (!Array.isArray(many)) {
      // Tags are passed over here by all Neutrons.
      const port = makePort(context, ask, entryOf(ask.body, 'port'))
      return { status: 201, body: { port: portView(port, admin) } }
    }
    const made: FakePort[] = []
    try {
      for (const one of many) {
        const entry = isRecord(one) ? one : {}
        const port = makePort(context, ask, entry)
        made.push(port)
        const tags: unknown = entry['tags']
        if (Array.isArray(tags) && context.options.bulkTags === true) port.tags = tags.map(String).toSorted()
      }
    } catch (error) {
      for (const port of made) cloud.ports.delete(port.id)
      throw error
    }
    return { status: 201, body: { ports: made.map((port) => portView(port, admin)) } }
  }
  const port = cloud.ports.get(id)
  if (port === undefined || !sees(ask.caller, port)) throw notFound('Port', id)
  if (ask.method === 'GET') return { status: 200, body: { port: portView(port, admin) } }
  if (ask.method === 'PUT') return update(context, ask, port)
  checkRevision(port, ask.ifMatch)
  if (port.owner === 'network:router_interface') {
    const reason = 'has device owner network:router_interface'
    throw neutron(409, 'ServicePortInUse', `Port ${id} cannot be deleted directly via the port API: ${reason}.`)
  }
  for (const one of cloud.floating.values()) {
    if (one.port === id) Object.assign(one, { port: undefined, fixed: undefined })
  }
  cloud.ports.delete(id)
  return { status: 204 }
}
