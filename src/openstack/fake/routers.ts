import { parseIp, tryParseIp } from '#ip/address.ts'
import { contains, parseCidr, tryParseIpNet } from '#ip/prefix.ts'
import { allocate, changesOf } from './addresses.ts'
import {
  baseView,
  checkRevision,
  entryOf,
  isRecord,
  listIn,
  sees,
  textIn,
  type Answer,
  type Ask,
  type Context,
} from './context.ts'
import { badInput, neutron, noSuchPath, notFound, overQuota } from './failure.ts'
import { listing } from './listing.ts'
import { newMac, type FakePort, type FakeRouter, type RouteEntry } from './model.ts'

const INTERFACE = 'network:router_interface'

const routerView = (router: FakeRouter): { readonly [key: string]: unknown } => ({
  ...baseView(router),
  admin_state_up: true,
  status: 'ACTIVE',
  routes: router.routes,
  external_gateway_info: router.gateway === undefined ? null : { network_id: router.gateway, external_fixed_ips: [] },
})

const key = (route: RouteEntry): string => `${route.destination} ${route.nexthop}`

/** As Python prints a list of routes in Neutron's message. */
const shown = (routes: readonly RouteEntry[]): string =>
  `[${routes.map((one) => `{'destination': '${one.destination}', 'nexthop': '${one.nexthop}'}`).join(', ')}]`

/** Bits beyond the length pass: Neutron looks at them only when the whole list is written. */
function routesIn(entry: { readonly [name: string]: unknown }, strict: boolean): readonly RouteEntry[] {
  const routes = (listIn(entry, 'routes') ?? []).map((one) => ({
    destination: textIn(one, 'destination') ?? '',
    nexthop: textIn(one, 'nexthop') ?? '',
  }))
  for (const { destination, nexthop } of routes) {
    const net = tryParseIpNet(destination)
    const canonical =
      net !== undefined && contains({ ip: net.ip, length: net.length }, net.ip) && isNetwork(destination)
    if (net === undefined || (strict && !canonical) || tryParseIp(nexthop) === undefined) {
      throw badInput(`Invalid input for routes. Reason: '${destination}' is not a valid CIDR.`)
    }
  }
  return routes
}

function isNetwork(text: string): boolean {
  try {
    parseCidr(text)
    return true
  } catch {
    return false
  }
}

function checkNextHops(context: Context, router: FakeRouter, routes: readonly RouteEntry[]): void {
  const { cloud } = context
  const fixed = cloud.portsOf(router.id).flatMap((port) => port.fixed)
  const cidrs = fixed.flatMap(({ subnet_id }) => cloud.subnets.get(subnet_id)?.cidr ?? [])
  const fail = (reason: string): Error =>
    neutron(400, 'InvalidRoutes', `Invalid format for routes: ${shown(routes)}, ${reason}`)
  for (const { nexthop } of routes) {
    if (!cidrs.some((cidr) => contains(parseCidr(cidr), parseIp(nexthop)))) {
      throw fail('the nexthop is not connected with router')
    }
    if (fixed.some(({ ip_address }) => ip_address === nexthop)) throw fail('the nexthop is used by router')
  }
}

function checkLimit(context: Context, router: FakeRouter, routes: readonly RouteEntry[]): void {
  const max = context.options.maxRoutes ?? 30
  if (routes.length <= max) return
  if (context.options.routesError === 'OverQuota') throw overQuota('router_route')
  const message = `Unable to complete operation for ${router.id}. The number of routes exceeds the maximum ${max}.`
  throw neutron(400, 'RoutesExhausted', message)
}

async function changeRoutes(context: Context, ask: Ask, router: FakeRouter, add: boolean): Promise<Answer> {
  const routes = routesIn(entryOf(ask.body, 'router'), false)
  checkRevision(router, ask.ifMatch)
  if (add) {
    checkNextHops(context, router, routes)
    const known = new Set(router.routes.map(key))
    // Counted against what was read: several at once get beyond the limit.
    checkLimit(context, router, [...router.routes, ...routes.filter((route) => !known.has(key(route)))])
  }
  const { writeMs = 0 } = context.options
  if (writeMs > 0) await context.clock.sleep(writeMs)
  const named = new Set(routes.map(key))
  const others = router.routes.filter((route) => !named.has(key(route)))
  const present = new Map(router.routes.map((route) => [key(route), route]))
  for (const route of routes) present.set(key(route), route)
  router.routes = add ? [...present.values()] : others
  router.revision += 1
  return { status: 200, body: { router: routerView(router) } }
}

function interfaceOf(context: Context, ask: Ask, router: FakeRouter, add: boolean): Answer {
  const { cloud, clock, random } = context
  const subnetId = isRecord(ask.body) ? (textIn(ask.body, 'subnet_id') ?? '') : ''
  const subnet = cloud.subnets.get(subnetId)
  if (subnet === undefined) throw notFound('Subnet', subnetId)
  const held = cloud.portsOf(router.id).find((port) => port.fixed.some((fixed) => fixed.subnet_id === subnetId))
  const answer = (port: FakePort): Answer => {
    const ids = {
      id: router.id,
      port_id: port.id,
      network_id: subnet.network,
      subnet_id: subnetId,
      subnet_ids: [subnetId],
    }
    return { status: 200, body: { ...ids, tenant_id: router.project } }
  }
  if (!add) {
    if (held === undefined) {
      const message = `Router ${router.id} has no interface on subnet ${subnetId}`
      throw neutron(404, 'RouterInterfaceNotFoundForSubnet', message)
    }
    const cannot = `Router interface for subnet ${subnetId} on router ${router.id} cannot be deleted, as it is required by one or more`
    if (router.routes.some(({ nexthop }) => contains(parseCidr(subnet.cidr), parseIp(nexthop)))) {
      throw neutron(409, 'RouterInterfaceInUseByRoute', `${cannot} routes.`)
    }
    const behind = [...cloud.floating.values()].some(
      ({ fixed }) => fixed !== undefined && contains(parseCidr(subnet.cidr), parseIp(fixed)),
    )
    if (behind) throw neutron(409, 'RouterInterfaceInUseByFloatingIP', `${cannot} floating IPs.`)
    cloud.ports.delete(held.id)
    return answer(held)
  }
  if (held !== undefined)
    throw neutron(400, 'BadRequest', `Bad router request: Router already has a port on subnet ${subnetId}.`)
  if (subnet.gateway === null) {
    throw neutron(400, 'BadRequest', 'Bad router request: Subnet for router interface must have a gateway IP.')
  }
  const wanted = [{ subnet_id: subnetId, ip_address: subnet.gateway }]
  const { add: addresses } = changesOf([], wanted, [subnet], subnet.network)
  const port: FakePort = {
    ...cloud.base(router.project, '', '', clock.wall()),
    network: subnet.network,
    mac: newMac(),
    fixed: allocate(addresses, (id) => cloud.taken(id), random),
    pairs: [],
    security: false,
    groups: [],
    up: true,
    device: router.id,
    owner: INTERFACE,
    host: '',
    byNova: false,
  }
  cloud.ports.set(port.id, port)
  return answer(port)
}

function gatewayIn(context: Context, entry: { readonly [name: string]: unknown }): string | undefined {
  const info = entry['external_gateway_info']
  if (!isRecord(info)) return undefined
  const id = textIn(info, 'network_id') ?? ''
  const network = context.cloud.networks.get(id)
  if (network === undefined) throw notFound('Network', id)
  if (!network.external) {
    throw neutron(400, 'BadRequest', `Bad router request: Network ${id} is not an external network.`)
  }
  return id
}

/** `/v2.0/routers…` */
export async function routers(context: Context, ask: Ask): Promise<Answer> {
  const { cloud, clock } = context
  const [, id, action] = ask.path
  if (id === undefined) {
    if (ask.method === 'GET') {
      const visible = [...cloud.routers.values()].filter((router) => sees(ask.caller, router))
      return listing(ask, 'routers', visible.map(routerView), context.base())
    }
    const entry = entryOf(ask.body, 'router')
    const base = cloud.base(
      ask.caller.project,
      textIn(entry, 'name') ?? '',
      textIn(entry, 'description') ?? '',
      clock.wall(),
    )
    const router: FakeRouter = { ...base, routes: [], gateway: gatewayIn(context, entry) }
    cloud.routers.set(router.id, router)
    return { status: 201, body: { router: routerView(router) } }
  }
  const router = cloud.routers.get(id)
  if (router === undefined || !sees(ask.caller, router)) throw notFound('Router', id)
  switch (`${ask.method} ${action ?? ''}`) {
    case 'GET ':
      return { status: 200, body: { router: routerView(router) } }
    case 'PUT add_extraroutes':
      return changeRoutes(context, ask, router, true)
    case 'PUT remove_extraroutes':
      return changeRoutes(context, ask, router, false)
    case 'PUT add_router_interface':
      return interfaceOf(context, ask, router, true)
    case 'PUT remove_router_interface':
      return interfaceOf(context, ask, router, false)
    case 'PUT ': {
      const entry = entryOf(ask.body, 'router')
      checkRevision(router, ask.ifMatch)
      if ('external_gateway_info' in entry) router.gateway = gatewayIn(context, entry)
      if ('routes' in entry) {
        const routes = routesIn(entry, true)
        // What an action stored is looked at now, and spoils the write.
        routesIn({ routes: router.routes }, true)
        checkNextHops(context, router, routes)
        checkLimit(context, router, routes)
        router.routes = routes
      }
      router.name = textIn(entry, 'name') ?? router.name
      router.revision += 1
      return { status: 200, body: { router: routerView(router) } }
    }
    case 'DELETE ': {
      if (cloud.portsOf(id).length > 0) throw neutron(409, 'RouterInUse', `Router ${id} still has ports`)
      cloud.routers.delete(id)
      return { status: 204 }
    }
    default:
      throw noSuchPath()
  }
}
