import assert from 'node:assert/strict'
import { test } from 'node:test'
import { agentMetrics } from '#agent/agent-metrics.ts'
import { Health } from '#agent/health.ts'
import { silentLog } from '#agent/log.ts'
import { NIC_CHECK, startNicService } from '#agent/nics/nic-service.ts'
import { agentOptions } from '#agent/options.ts'
import { KubeClient } from '#kube/client.ts'
import { nodes } from '#kube/resources.ts'
import { startApiServer } from '#kube/server/server.ts'
import { hostDevicePlusPlugin } from '#plugins/host-device-plus/plugin.ts'
import { needsRoot } from '../namespace.ts'
import { inputOf } from '../plugins/input.ts'
import { NovaHost } from '../plugins/nova-host.ts'
import { slowness } from '../slow.ts'

const plugin = hostDevicePlusPlugin({ settleMs: 0 })
const RESOURCE = 'heddle.io/neutron-nics'

async function until(what: string, is: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = Date.now() + 20_000 * slowness
  while (!(await is())) {
    if (Date.now() > deadline) assert.fail(`waited for ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

test(
  'the agent fills the pool, publishes places on the Node, counts, and tells trouble',
  { skip: needsRoot },
  async () => {
    await using made = await NovaHost.start()
    await using api = await startApiServer()
    const [url = ''] = api.urls
    using client = new KubeClient({
      server: new URL(url),
      tls: () => ({ rejectUnauthorized: true }),
      token: undefined,
      basic: undefined,
      namespace: 'default',
    })
    await client.create(nodes, { metadata: { name: 'node-1' } })
    const capacity = async (): Promise<unknown> =>
      (await client.get(nodes, { name: 'node-1' })).status?.capacity?.[RESOURCE]
    const { cluster } = agentOptions({ nodeName: 'node-1', kubeApiUrl: url, root: made.root }, {})
    const metrics = agentMetrics({ version: '0', node: '0' })
    const health = new Health()
    const service = startNicService({
      paths: { root: made.root },
      cluster,
      metrics,
      health,
      log: silentLog,
      userAgent: 'test',
      keeper: { host: made.host, intervalMs: 50, fullMs: 200, settleMs: 0 },
    })
    try {
      await new Promise((resolve) => setTimeout(resolve, 100))
      // Nodes that have no such network are told nothing of it.
      assert.deepEqual(health.readiness().checks, [])
      assert.equal(await capacity(), undefined)
      await plugin.status(inputOf(made.conf({ poolSize: 1, deviceLimit: 10 })), made.host)
      await until('9 places', async () => (await capacity()) === '9')
      await until('a passing check', () => health.isPassing(NIC_CHECK))
      // Somebody attaches a card of his own.
      const [own] = made.fake.cloud.ports.values()
      if (own !== undefined)
        made.fake.cloud.ports.set('x', { ...own, id: 'x', name: 'other', mac: '02:00:00:00:00:0f' })
      await until('8 places', async () => (await capacity()) === '8')
      assert.match(
        metrics.registry.text('prometheus'),
        /heddle_nic_operations_total\{operation="attach",outcome="done"\} 1/,
      )
      assert.match(metrics.registry.text('prometheus'), /heddle_nics\{state="idle"\} 1/)
      assert.match(
        metrics.registry.text('prometheus'),
        /heddle_nic_requests_total\{service="compute",method="POST",code="ok"\} 1/,
      )
      made.fake.cloud.ports.delete('x')
      const away = made.fake.faults.inject({
        action: { kind: 'status', status: 403 },
        match: ({ path }) => path.includes('v2.'),
      })
      await until('a failing check', () => !health.isPassing(NIC_CHECK))
      assert.match(health.readiness().checks[0]?.reason ?? '', /network net1: .*policy/)
      assert.equal(health.readiness().ready, true)
      away()
      await until('a passing check again', () => health.isPassing(NIC_CHECK))
      await plugin.status(inputOf(made.conf()), made.host)
      await made.assertNothing('without a pool')
    } finally {
      await service[Symbol.asyncDispose]()
    }
  },
)
