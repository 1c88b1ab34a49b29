/** Agents in namespaces, and between them a router that follows the cloud's table: pods really reach each other, and only by it. */

import assert from 'node:assert/strict'
import { test } from 'node:test'

import { ipText } from '#ip/address.ts'
import { listenTcp } from '#lab/check/responder.ts'
import { routeName } from '#cloud/gce.ts'
import { needsRoot, run, TestCluster, until } from '../agent/cluster.ts'
import { AliServer } from './ali-server.ts'
import { awsInterface, AwsServer } from './aws-server.ts'
import type { CloudRoute, CloudServer } from './cloud-server.ts'
import { gceInstance, GceServer } from './gce-server.ts'
import { TencentServer } from './tencent-server.ts'

const ROUTER = '192.0.2.254'
const PORT = 8080

/** How each cloud writes an instance with this address. */
type Hop = (instance: string, address: string) => string

interface Case {
  readonly type: string
  readonly server: () => CloudServer
  readonly hop: Hop
  /** With what goes wrong and comes back, which is the agent's part and alike for all. */
  readonly isWhole?: boolean
}

const CASES: readonly Case[] = [
  { type: 'gce', server: () => new GceServer(), hop: gceInstance, isWhole: true },
  { type: 'ali-vpc', server: () => new AliServer(), hop: (instance) => instance },
  { type: 'aws-vpc', server: () => new AwsServer(), hop: awsInterface },
  { type: 'tencent-vpc', server: () => new TencentServer(), hop: (_, address) => address },
]

/** The router's own routes are what the table says; the cloud sends no redirects. */
function follow(cluster: TestCluster, server: CloudServer, hop: Hop): void {
  const sw = cluster.switch
  for (const at of ['all', 'near']) run(sw, 'sysctl', '-qw', `net.ipv4.conf.${at}.send_redirects=0`)
  const addresses = new Map(cluster.nodes.map(({ index, address }) => [hop(`i-${index}`, address), address]))
  let held: readonly CloudRoute[] = []
  server.onChange = (routes) => {
    for (const { destination } of held) run(sw, 'ip', 'route', 'del', destination)
    held = routes.filter(({ nextHop }) => addresses.has(nextHop))
    for (const { destination, nextHop } of held)
      run(sw, 'ip', 'route', 'add', destination, 'via', addresses.get(nextHop) ?? '')
  }
}

for (const { type, server: make, hop, isWhole = false } of CASES)
  test(
    `${type}: pods reach each other through the cloud's table, at the underlay's MTU`,
    { skip: needsRoot },
    async () => {
      await using cluster = await TestCluster.open({ nodes: 2, backend: { Type: type } })
      const [a, b] = [cluster.node(0), cluster.node(1)]
      const fd = listenTcp(`/run/netns/${cluster.switch}`, { ip: ipText(ROUTER), port: PORT }, 4)
      await using server = await make().listen(fd)
      const names = new Map(cluster.nodes.map(({ address, index }) => [address, `i-${index}`]))
      server.instanceOf = (address) => names.get(address) ?? 'i-nobody'
      server.addressesOf = (instance) => cluster.nodes.flatMap((n) => (`i-${n.index}` === instance ? [n.address] : []))
      follow(cluster, server, hop)
      process.env['HEDDLE_CLOUD_METADATA_URL'] = `http://${ROUTER}:${PORT}`
      process.env['HEDDLE_CLOUD_API_URL'] = `http://${ROUTER}:${PORT}`
      if (isWhole) server.limit = 0
      cluster.startAll()
      if (isWhole) {
        await until('the full table is told', async () => /quota/i.test((await a.get('/readyz')).body), 20_000)
        assert.equal((await a.get('/readyz')).status, 503)
        const said = (await cluster.annotations('node-0'))['backend-type']
        assert.equal(said, undefined, 'a node without a way says nothing')
      }
      server.limit = Infinity
      await cluster.ready()

      const own = await cluster.annotations('node-0')
      assert.deepEqual([own['backend-type'], own['backend-data'], own['public-ip']], [type, 'null', a.address])
      assert.match(a.run('cat', a.subnetFile), /FLANNEL_SUBNET=10\.244\.0\.1\/24\nFLANNEL_MTU=1500\n/)
      assert.doesNotMatch(a.run('ip', 'route'), /10\.244\.1\./)
      const [from, to] = [cluster.pod(a), cluster.pod(b)]
      const pings = (ns: string, target: string): string =>
        run(ns, 'ping', '-c', '3', '-i', '0.1', '-W', '2', '-M', 'do', '-s', '1472', target)
      assert.match(pings(from, '10.244.1.2'), / 0% packet loss/)
      assert.match(pings(to, '10.244.0.2'), / 0% packet loss/)
      if (!isWhole) return

      // An agent that is killed leaves the way as it is; one that comes back makes no second one.
      await cluster.stop(b, 'SIGKILL')
      assert.match(pings(from, '10.244.1.2'), / 0% packet loss/)
      // Another instance once had node 1's subnet.
      const former = {
        destination: '10.244.1.0/24',
        nextHop: hop('i-former', '192.0.2.77'),
        description: 'heddle: pods of x',
        name: routeName('10.244.1.0/24'),
      }
      server.routes = [...server.routes.filter(({ destination }) => destination !== former.destination), former]
      server.onChange(server.routes)
      assert.throws(() => pings(from, '10.244.1.2'), 'without the route nothing arrives')
      cluster.start(b)
      await until(
        'the way is back',
        () => server.routes.some(({ nextHop }) => nextHop === hop('i-1', b.address)),
        20_000,
      )
      await cluster.ready(b)
      assert.match(pings(from, '10.244.1.2'), / 0% packet loss/)
      assert.equal(server.routes.length, 2)
      assert.equal(await b.metric('heddle_cloud_changes_total{step="replace"}'), 1)
    },
  )
