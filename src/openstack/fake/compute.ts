/** Nova's part: servers as they are set up, and their interfaces, as its API answers with the fake driver. */

import { isRecord, textIn, type Answer, type Ask, type Context } from './context.ts'
import { nova } from './failure.ts'
import { makePort } from './ports.ts'
import type { FakePort, FakeServer } from './model.ts'

const OWNER = 'compute:nova'

const view = (port: FakePort): object => ({
  port_id: port.id,
  net_id: port.network,
  mac_addr: port.mac,
  port_state: port.up ? 'ACTIVE' : 'DOWN',
  fixed_ips: port.fixed,
})

async function attach(context: Context, ask: Ask, server: FakeServer): Promise<Answer> {
  const { cloud, clock, options } = context
  const entry: unknown = isRecord(ask.body) ? ask.body['interfaceAttachment'] : undefined
  if (!isRecord(entry)) throw nova(400, 'badRequest', "Invalid input: 'interfaceAttachment' is a required property")
  const [portId, network] = [textIn(entry, 'port_id'), textIn(entry, 'net_id')]
  if (portId !== undefined && network !== undefined)
    throw nova(400, 'badRequest', 'Must not input both network_id and port_id')
  const fixed = entry['fixed_ips']
  if (Array.isArray(fixed) && fixed.length > 1) {
    throw nova(
      400,
      'badRequest',
      `Invalid input for field/attribute fixed_ips. Value: ${JSON.stringify(fixed)}. it is too long`,
    )
  }
  if (server.status !== 'ACTIVE' && server.status !== 'SHUTOFF') {
    const message = `Cannot 'attach_interface' instance ${server.id} while it is in vm_state ${server.status.toLowerCase()}`
    throw nova(409, 'conflictingRequest', message)
  }
  const port = portId === undefined ? undefined : cloud.ports.get(portId)
  if (portId !== undefined && port === undefined)
    throw nova(404, 'itemNotFound', `Port id ${portId} could not be found.`)
  if (port !== undefined && port.device !== '')
    throw nova(409, 'conflictingRequest', `Port ${port.id} is still in use.`)
  // Bound at once, so that a second request for it is refused while this one is under way.
  const card = port ?? makePort(context, ask, { network_id: network ?? '' })
  card.byNova = port === undefined
  Object.assign(card, { device: server.id, owner: OWNER, host: server.host })
  card.revision += 1
  if ((options.attachMs ?? 0) > 0) await clock.sleep(options.attachMs ?? 0)
  return { status: 200, body: { interfaceAttachment: view(card) } }
}

async function detachLater(context: Context, port: FakePort): Promise<void> {
  await context.clock.sleep(context.options.attachMs ?? 0)
  if (port.byNova) context.cloud.ports.delete(port.id)
  else Object.assign(port, { device: '', owner: '', host: '', revision: port.revision + 1 })
}

/** `/v2.1/servers/ID…` */
export async function servers(context: Context, ask: Ask): Promise<Answer> {
  const { cloud } = context
  const [, id = '', leaf, portId] = ask.path
  const server = cloud.servers.get(id)
  if (server === undefined || (!ask.caller.admin && server.project !== ask.caller.project)) {
    throw nova(404, 'itemNotFound', `Instance ${id} could not be found.`)
  }
  const cards = cloud.portsOf(id)
  if (leaf === undefined && ask.method === 'GET') {
    const { name, status } = server
    return { status: 200, body: { server: { id, name, status, 'OS-EXT-STS:task_state': null } } }
  }
  if (leaf === 'os-interface' && portId === undefined) {
    if (ask.method === 'GET') return { status: 200, body: { interfaceAttachments: cards.map(view) } }
    if (ask.method === 'POST') return attach(context, ask, server)
  }
  if (leaf === 'os-interface' && portId !== undefined) {
    const port = cards.find((card) => card.id === portId)
    if (port === undefined) throw nova(404, 'itemNotFound', `No instance found with port ID ${portId}`)
    if (ask.method === 'GET') return { status: 200, body: { interfaceAttachment: view(port) } }
    if (ask.method === 'DELETE') {
      void detachLater(context, port)
      return { status: 202 }
    }
  }
  throw nova(404, 'itemNotFound', 'The resource could not be found.')
}

/** `/v2.1/`: what microversions there are. */
export const versions = (): Answer => ({
  status: 200,
  body: { version: { id: 'v2.1', status: 'CURRENT', version: '2.93', min_version: '2.1', links: [] } },
})
