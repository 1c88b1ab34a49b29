import { ipText } from '#ip/address.ts'
import { familyOf } from '#ip/prefix.ts'
import { allocate, changesOf } from './addresses.ts'
import { baseView, checkRevision, entryOf, sees, textIn, type Answer, type Ask, type Context } from './context.ts'
import { neutron, notFound, overQuota } from './failure.ts'
import { listing } from './listing.ts'
import type { Caller, FakeFloating } from './model.ts'

function view(context: Context, one: FakeFloating): { readonly [key: string]: unknown } {
  const port = context.cloud.ports.get(one.port ?? '')
  const router = port === undefined ? undefined : routerOf(context, port.network, one.network)
  return {
    ...baseView(one),
    floating_network_id: one.network,
    floating_ip_address: one.address,
    fixed_ip_address: one.fixed ?? null,
    port_id: one.port ?? null,
    router_id: router ?? null,
    // It stays as it was when the address leaves the port: nobody looks.
    status: one.port === undefined ? 'DOWN' : 'ACTIVE',
  }
}

/** The router between a network and the outside. */
function routerOf(context: Context, network: string, external: string): string | undefined {
  const { cloud } = context
  return [...cloud.routers.values()].find(
    (router) => router.gateway === external && cloud.portsOf(router.id).some((port) => port.network === network),
  )?.id
}

const bad = (message: string): Error => neutron(400, 'BadRequest', `Bad floatingip request: ${message}.`)

function point(context: Context, one: FakeFloating, portId: string, asked: string | undefined, caller: Caller): void {
  const { cloud } = context
  const port = cloud.ports.get(portId)
  if (port === undefined || !sees(caller, port)) throw notFound('Port', portId)
  const addresses = port.fixed.map((fixed) => fixed.ip_address).filter((address) => familyOf(address) === 4)
  if (asked === undefined && addresses.length > 1) {
    throw bad(
      `Port ${portId} has multiple fixed IPv4 addresses.  Must provide a specific IPv4 address when assigning a floating IP`,
    )
  }
  const chosen = asked === undefined ? addresses[0] : addresses.find((address) => address === asked)
  if (chosen === undefined) throw bad(`Port ${portId} does not have fixed ip ${asked ?? ''}`)
  if (routerOf(context, port.network, one.network) === undefined) {
    const subnet = port.fixed.find((fixed) => fixed.ip_address === chosen)?.subnet_id ?? ''
    const message = `External network ${one.network} is not reachable from subnet ${subnet}.  Therefore, cannot associate Port ${portId} with a Floating IP.`
    throw neutron(404, 'ExternalGatewayForFloatingIPNotFound', message)
  }
  const other = [...cloud.floating.values()].find(
    (each) => each !== one && each.port === portId && each.fixed === chosen,
  )
  if (other !== undefined) {
    const message = `Cannot associate floating IP ${one.address} (${one.id}) with port ${portId} using fixed IP ${chosen}, as that fixed IP already has a floating IP on external network ${one.network}.`
    throw neutron(409, 'FloatingIPPortAlreadyAssociated', message)
  }
  one.port = portId
  one.fixed = chosen
}

function create(context: Context, ask: Ask): Answer {
  const { cloud, clock, random } = context
  const entry = entryOf(ask.body, 'floatingip')
  const networkId = textIn(entry, 'floating_network_id') ?? ''
  const network = cloud.networks.get(networkId)
  if (network === undefined) throw notFound('Network', networkId)
  if (!network.external) throw bad(`Network ${networkId} is not a valid external network`)
  const { project } = ask.caller
  const limit = cloud.quotas.get('floatingip') ?? -1
  const used = [...cloud.floating.values()].filter((one) => one.project === project).length
  if (limit >= 0 && used >= limit) throw overQuota('floatingip')
  const subnets = cloud.subnetsOf(networkId).filter(({ family }) => family === 4)
  const wanted = textIn(entry, 'floating_ip_address')
  const ask1 =
    wanted === undefined ? subnets.slice(0, 1).map(({ id }) => ({ subnet_id: id })) : [{ ip_address: wanted }]
  const [fixed] = allocate(changesOf([], ask1, subnets, networkId).add, (id) => cloud.taken(id), random)
  if (fixed === undefined) {
    const message = `Unable to find any IP address on external network ${networkId}.`
    throw neutron(400, 'ExternalIpAddressExhausted', message)
  }
  const one: FakeFloating = {
    ...cloud.base(project, '', textIn(entry, 'description') ?? '', clock.wall()),
    network: networkId,
    address: ipText(fixed.ip_address),
    port: undefined,
    fixed: undefined,
  }
  const port = textIn(entry, 'port_id')
  if (port !== undefined) point(context, one, port, textIn(entry, 'fixed_ip_address'), ask.caller)
  cloud.floating.set(one.id, one)
  return { status: 201, body: { floatingip: view(context, one) } }
}

/** `/v2.0/floatingips…` */
export function floatingips(context: Context, ask: Ask): Answer {
  const { cloud } = context
  const [, id] = ask.path
  if (id === undefined) {
    if (ask.method === 'POST') return create(context, ask)
    const visible = [...cloud.floating.values()].filter((one) => sees(ask.caller, one))
    return listing(
      ask,
      'floatingips',
      visible.map((one) => view(context, one)),
      context.base(),
    )
  }
  const one = cloud.floating.get(id)
  if (one === undefined || !sees(ask.caller, one)) throw notFound('FloatingIP', id)
  if (ask.method === 'GET') return { status: 200, body: { floatingip: view(context, one) } }
  if (ask.method === 'DELETE') {
    cloud.floating.delete(id)
    return { status: 204 }
  }
  const entry = entryOf(ask.body, 'floatingip')
  checkRevision(one, ask.ifMatch)
  if (entry['port_id'] === null) Object.assign(one, { port: undefined, fixed: undefined })
  else {
    const port = textIn(entry, 'port_id')
    if (port !== undefined) point(context, one, port, textIn(entry, 'fixed_ip_address'), ask.caller)
  }
  one.revision += 1
  return { status: 200, body: { floatingip: view(context, one) } }
}
