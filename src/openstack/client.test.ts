import assert from 'node:assert/strict'
import { inspect } from 'node:util'
import { afterEach, beforeEach, describe, it } from 'node:test'

import { ipText } from '#ip/address.ts'
import { FakeClock } from '#sys/fake-clock.ts'
import { Breaker } from './breaker.ts'
import { OpenStackClient, withPath, type Attempt, type ClientOptions } from './client.ts'
import { cloudConfig, type CloudConfig, type Settings } from './config.ts'
import { isCode, OpenStackError } from './errors.ts'
import type { FakeOptions } from './fake/context.ts'
import type { FaultAction } from './fake/faults.ts'
import { FakeCloud } from './fake/server.ts'
import { Ports } from './neutron/port.ts'
import { addRoutes } from './neutron/router.ts'
import { Compute } from './nova/compute.ts'

const PASSWORD = 'sw0rdf1sh'
let fake: FakeCloud
let project = ''
let user = ''

async function restart(options: FakeOptions = {}): Promise<void> {
  await fake?.[Symbol.asyncDispose]()
  fake = await FakeCloud.start(options)
  ;({ user, project } = fake.addUser('demo', PASSWORD, 'demo'))
}
beforeEach(() => restart())
afterEach(() => fake[Symbol.asyncDispose]())

const configOf = (more: Settings = {}): CloudConfig =>
  cloudConfig(
    '',
    { auth_url: fake.authUrl, username: 'demo', password: PASSWORD, project_name: 'demo', ...more },
    'test',
  )
const fast = { attempts: 4, baseMs: 1, capMs: 4 }
const clientOf = (options: ClientOptions = {}, config = configOf()): OpenStackClient =>
  new OpenStackClient(config, { retry: fast, ...options })

function network(cidr = '10.0.0.0/24'): { readonly network: string; readonly subnet: string } {
  const base = () => fake.cloud.base(project, '', '', 0)
  const net = { ...base(), mtu: 1450, shared: false, external: false }
  const [prefix] = cidr.split('.0/')
  const pools = [{ start: `${prefix}.2`, end: `${prefix}.254` }]
  const sub = { ...base(), network: net.id, cidr, family: 4 as const, gateway: `${prefix}.1`, pools, dhcp: false }
  fake.cloud.networks.set(net.id, net)
  fake.cloud.subnets.set(sub.id, sub)
  return { network: net.id, subnet: sub.id }
}

const sent = (method: string, path: RegExp): number =>
  fake.requests.filter((one) => one.method === method && path.test(one.path)).length
const inject = (action: FaultAction, times: number, path = /ports/): (() => void) =>
  fake.faults.inject({ action, times, match: (request) => path.test(request.path) })
const codeOf = async (work: Promise<unknown>): Promise<string> => {
  const error: unknown = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  return error instanceof OpenStackError ? error.code : `no OpenStackError: ${inspect(error)}`
}

async function until(what: string, is: () => boolean | Promise<boolean>): Promise<void> {
  const end = performance.now() + 10_000
  while (!(await is())) {
    if (performance.now() > end) assert.fail(`waited 10 s for ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

describe('tokens', () => {
  it('many calls at once ask for one token, and later ones for none', async () => {
    using client = clientOf()
    await Promise.all(Array.from({ length: 8 }, () => new Ports(client).list()))
    await new Ports(client).list()
    assert.equal(fake.identity.given, 1)
  })
  it('a token that is refused is replaced once, and the request goes on', async () => {
    using client = clientOf()
    await new Ports(client).list()
    fake.identity.revokeAll()
    await new Ports(client).list()
    assert.equal(fake.identity.given, 2)
  })
  it('a service that refuses every token is not asked for ever', async () => {
    using client = clientOf()
    inject({ kind: 'status', status: 401 }, Number.POSITIVE_INFINITY)
    assert.equal(await codeOf(new Ports(client).list()), 'unauthorized')
    assert.equal(sent('GET', /ports/), 2)
  })
  it('a token is replaced before it ends, without anyone waiting', async () => {
    const clock = new FakeClock(Date.now())
    await restart({ clock, tokenMs: 1_000_000 })
    using client = clientOf({ clock })
    await new Ports(client).list()
    await clock.advance(950_000)
    await new Ports(client).list()
    await until('another token', () => fake.identity.given >= 2)
    assert.equal(sent('GET', /ports/), 2)
    await new Ports(client).list()
    assert.equal(fake.identity.given, 2)
  })
  it('after a refusal Keystone is left alone for half a minute: accounts get locked', async () => {
    using client = clientOf({}, configOf({ password: 'wrong' }))
    for (let n = 0; n < 3; n += 1) assert.equal(await codeOf(client.projectId()), 'unauthorized')
    assert.equal(sent('POST', /tokens/), 1)
  })
  it('an application credential, by id and by name; another token', async () => {
    const id = fake.addCredential(user, 'k8s', 'appsecret')
    const secret = { auth_url: fake.authUrl, application_credential_secret: 'appsecret' }
    const byId = cloudConfig('', { ...secret, application_credential_id: id }, 'test')
    const byName = cloudConfig('', { ...secret, application_credential_name: 'k8s', username: 'demo' }, 'test')
    for (const config of [byId, byName]) {
      using client = new OpenStackClient(config)
      assert.equal(await client.projectId(), project)
    }
  })
})

describe('what goes wrong', () => {
  const retried: readonly (readonly [string, FaultAction])[] = [
    ['429', { kind: 'status', status: 429, retryAfter: '0' }],
    ['503', { kind: 'status', status: 503 }],
    [
      '500 of a locked database',
      { kind: 'status', status: 500, body: { NeutronError: { type: 'HTTPInternalServerError', message: 'x' } } },
    ],
    ['a connection that breaks', { kind: 'drop' }],
  ]
  for (const [name, action] of retried) {
    it(`${name}: a list is asked for again`, async () => {
      using client = clientOf()
      inject(action, 3)
      assert.deepEqual(await new Ports(client).list(), [])
    })
  }
  it('Retry-After is waited for, but not beyond the deadline', async () => {
    using client = clientOf({ timeoutMs: 2_000 })
    inject({ kind: 'status', status: 503, retryAfter: '30' }, 1)
    const started = performance.now()
    assert.equal(await codeOf(new Ports(client).list()), 'unavailable')
    assert.ok(performance.now() - started < 1_900)
  })
  it('a port is not made twice: what may have been done is not repeated, and said', async () => {
    using client = clientOf()
    const { network: id } = network()
    inject({ kind: 'status', status: 503, afterWork: true }, 1)
    const error: unknown = await new Ports(client).create({ network_id: id }).catch((reason: unknown) => reason)
    assert.ok(isCode(error, 'unavailable') && error.perhapsDone)
    assert.equal(fake.cloud.ports.size, 1)
    inject({ kind: 'drop', afterWork: true }, 1)
    const broken: unknown = await new Ports(client).create({ network_id: id }).catch((reason: unknown) => reason)
    assert.ok(isCode(broken, 'unreachable') && broken.perhapsDone)
    assert.equal(fake.cloud.ports.size, 2)
  })
  it('429 refuses before the work, so even a POST is repeated', async () => {
    using client = clientOf()
    const { network: id } = network()
    inject({ kind: 'status', status: 429 }, 2)
    await new Ports(client).create({ network_id: id })
    assert.equal(fake.cloud.ports.size, 1)
  })
  it('a PUT whose answer was lost gives no second address when it is repeated', async () => {
    using client = clientOf()
    const { network: id, subnet } = network()
    const port = await new Ports(client).create({ network_id: id })
    inject({ kind: 'drop', afterWork: true }, 1)
    const wanted = [...port.fixed_ips, { subnet_id: subnet }]
    assert.equal((await new Ports(client).update(port.id, { fixed_ips: wanted })).fixed_ips.length, 2)
  })
  it('a service that is slow ends at the deadline', async () => {
    using client = clientOf({ timeoutMs: 150, attemptMs: 100 })
    await client.projectId()
    inject({ kind: 'slow', ms: 3_000 }, 9)
    const started = performance.now()
    assert.equal(await codeOf(new Ports(client).list()), 'timeout')
    assert.ok(performance.now() - started < 2_000)
  })
  it('its owner can give up', async () => {
    using client = clientOf()
    inject({ kind: 'slow', ms: 3_000 }, 1)
    assert.equal(await codeOf(new Ports(client).list({}, { signal: AbortSignal.timeout(50) })), 'aborted')
  })
  const hostile: readonly (readonly [string, FaultAction])[] = [
    ['HTML', { kind: 'garbage' }],
    ['another object', { kind: 'answer', body: { ports: {} } }],
    ['an id that is a path', { kind: 'answer', body: { port: { id: '../../servers/x' } } }],
    ['a redirect', { kind: 'status', status: 302 }],
  ]
  for (const [name, action] of hostile) {
    it(`${name} is no answer`, async () => {
      using client = clientOf()
      inject(action, 1)
      assert.equal(await codeOf(new Ports(client).get('x')), 'bad-response')
    })
  }
  it('pages that repeat themselves end', async () => {
    using client = clientOf()
    const { network: id } = network()
    const port = await new Ports(client).create({ network_id: id })
    const links = [{ rel: 'next', href: 'http://192.0.2.1/steal' }]
    inject({ kind: 'answer', body: { ports: [port], ports_links: links } }, Number.POSITIVE_INFINITY)
    assert.equal(await codeOf(new Ports(client).list()), 'bad-response')
  })
  it('no password or token is in errors, their causes or attempts', async () => {
    const attempts: Attempt[] = []
    using client = clientOf({ onAttempt: (attempt) => attempts.push(attempt) })
    inject({ kind: 'status', status: 403, body: { NeutronError: { type: 'PolicyNotAuthorized', message: 'no' } } }, 1)
    const error: unknown = await new Ports(client).get('x').catch((reason: unknown) => reason)
    const text = inspect([error, attempts, client, configOf()], { depth: 12, showHidden: true })
    assert.ok(isCode(error, 'forbidden'))
    assert.ok(!text.includes(PASSWORD) && !text.includes('gAAAAA'), text)
    assert.deepEqual(
      attempts.map(({ code, status }) => [code, status]),
      [['forbidden', 403]],
    )
  })
  it('an id stays one step of the path', () => {
    const url = withPath(new URL('http://h/v2.0/'), ['ports', 'a/../b?c#d'])
    assert.equal(url.href, 'http://h/v2.0/ports/a%2F..%2Fb%3Fc%23d')
    assert.throws(() => withPath(new URL('http://h/'), ['ports', '..']), /is no id/)
  })
  it('a service that fails again and again is left alone, and tried again by one', async () => {
    using client = clientOf({
      retry: { attempts: 1, baseMs: 1, capMs: 1 },
      breaker: { threshold: 3, pauseMs: 50, longestMs: 100 },
    })
    await client.projectId()
    const mend = inject({ kind: 'status', status: 503 }, Number.POSITIVE_INFINITY)
    for (let n = 0; n < 3; n += 1) assert.equal(await codeOf(new Ports(client).list()), 'unavailable')
    assert.equal(await codeOf(new Ports(client).list()), 'paused')
    assert.equal(sent('GET', /ports/), 3)
    mend()
    await new Promise((resolve) => setTimeout(resolve, 60))
    await new Ports(client).list()
    assert.equal(client.breakerState('network').state, 'closed')
  })
})

describe('breaker', () => {
  it('each pause is twice the last, and what says no is an answer', async () => {
    const clock = new FakeClock()
    const breaker = new Breaker('x', clock, { threshold: 2, pauseMs: 100, longestMs: 250 })
    const pauses: number[] = []
    breaker.failed()
    assert.equal(breaker.state.state, 'closed')
    for (let n = 0; n < 3; n += 1) {
      breaker.failed()
      pauses.push(breaker.state.waitMs)
      assert.throws(() => breaker.enter('y'), /left alone/)
      await clock.advance(breaker.state.waitMs)
      breaker.enter('y')
      assert.throws(() => breaker.enter('y'), /while one request tries it/)
    }
    assert.deepEqual(pauses, [100, 200, 250])
    breaker.succeeded()
    breaker.enter('y')
  })
})

describe('races, as on a database with several workers', () => {
  it('If-Match is no lock: writers at the same time get through, and the port has what all of them added', async () => {
    await restart({ writeMs: 30 })
    using client = clientOf()
    const { network: id, subnet } = network()
    const port = await new Ports(client).create({ network_id: id })
    const results = await Promise.allSettled(
      Array.from({ length: 6 }, (_, n) => {
        const fixed_ips = [...port.fixed_ips, { subnet_id: subnet, ip_address: ipText(`10.0.0.${100 + n}`) }]
        return new Ports(client).update(port.id, { fixed_ips }, { revision: port.revision_number })
      }),
    )
    assert.ok(results.filter(({ status }) => status === 'fulfilled').length > 1)
    assert.equal((await new Ports(client).get(port.id)).fixed_ips.length, 7)
  })
  it('the limit of routes holds for one writer only, and newer Neutrons name it otherwise', async () => {
    await restart({ writeMs: 30, maxRoutes: 3, routesError: 'OverQuota' })
    using client = clientOf()
    const { network: id, subnet } = network()
    const router = { ...fake.cloud.base(project, 'r', '', 0), routes: [], gateway: undefined }
    fake.cloud.routers.set(router.id, router)
    const port = await new Ports(client).create({
      network_id: id,
      fixed_ips: [{ subnet_id: subnet, ip_address: ipText('10.0.0.1') }],
    })
    Object.assign(fake.cloud.ports.get(port.id) ?? {}, { device: router.id, owner: 'network:router_interface' })
    const { cidrText } = await import('#ip/prefix.ts')
    const route = (n: number) => ({ destination: cidrText(`10.9.${n}.0/24`), nexthop: ipText('10.0.0.9') })
    await Promise.all([0, 1].map((n) => addRoutes(client, router.id, [route(2 * n), route(2 * n + 1)])))
    assert.equal(router.routes.length, 4)
    assert.equal(await codeOf(addRoutes(client, router.id, [route(9)])), 'over-quota')
  })
})

describe('Nova', () => {
  it('a card is attached once, and detached after a while; a port that was made before stays', async () => {
    await restart({ attachMs: 20 })
    using client = clientOf()
    const { network: id } = network()
    const server = fake.addServer(project, 'vm')
    const compute = new Compute(client)
    const port = await new Ports(client).create({ network_id: id })
    assert.equal((await compute.server(server.id)).status, 'ACTIVE')
    const card = await compute.attach(server.id, { port: port.id })
    assert.deepEqual([card.port_id, card.mac_addr], [port.id, port.mac_address])
    assert.equal(await codeOf(compute.attach(server.id, { port: port.id })), 'conflict')
    const made = await compute.attach(server.id, { network: id })
    assert.equal((await compute.interfaces(server.id)).length, 2)
    for (const one of [card, made]) assert.equal(await compute.detach(server.id, one.port_id), true)
    await until('no cards', async () => (await compute.interfaces(server.id)).length === 0)
    assert.equal(await compute.detach(server.id, port.id), false)
    assert.equal((await new Ports(client).get(port.id)).device_id, '')
    assert.equal(await codeOf(new Ports(client).get(made.port_id)), 'not-found')
    assert.equal(await compute.version(), '2.49')
  })
  it('a server in an error takes none', async () => {
    using client = clientOf()
    const { network: id } = network()
    const server = fake.addServer(project, 'vm', 'ERROR')
    assert.equal(await codeOf(new Compute(client).attach(server.id, { network: id })), 'conflict')
  })
})
