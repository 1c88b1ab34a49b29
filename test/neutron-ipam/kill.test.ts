/** The daemon is killed at each of its steps; the next one finds what it left, and nothing is lost or given twice. */

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { after, before, test } from 'node:test'

import type { JsonObject } from '#cni/json.ts'
import { fakeTarget, type Target } from '../openstack/target.ts'
import { slowness } from '../slow.ts'
import { TestNode, until } from './node.ts'

const EAGER = { minimum: 0, warm: 0, batch: 2, cooldownSeconds: 0, settleSeconds: 0, idleReclaimSeconds: 0 } as const

/** Kills itself at a step. */
function startDaemon(node: TestNode, step: string) {
  const { root, card, raw, cloud } = node
  const given = JSON.stringify({ ipam: raw['ipam'], root, card, authUrl: cloud.authUrl.href })
  const file = new URL('daemon.ts', import.meta.url).pathname
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', file, given], {
    env: { ...process.env, HEDDLE_FAILPOINT: step },
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const gone = once(child, 'exit')
  return {
    ready: once(child.stdout, 'data'),
    gone,
    [Symbol.asyncDispose]: async () => {
      if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL')
      await gone
    },
  }
}

let target: Target | undefined
before(async () => {
  target = await fakeTarget()
})
after(() => target?.[Symbol.asyncDispose]())

const fixed = ['intended', 'put', 'grown', 'had', 'picked', 'assigned', 'freeing', 'freed', 'leaving', 'shrunk', 'left']
const prefix = ['intended', 'post', 'tagged', 'put', 'shrunk']
const cases = [...fixed.map((step) => ['fixed_ips', step] as const), ...prefix.map((step) => ['prefix', step] as const)]

for (const [validity, step] of cases) {
  test(`${validity}: killed at ${step}`, async () => {
    assert.ok(target !== undefined)
    const ipam: JsonObject = { validity, cluster: 'blue', node: 'n1', pool: EAGER }
    await using node = await TestNode.make({ cloud: target.member, ipam })
    const own = await node.held()
    const pods = new Map<string, string>()
    {
      await using daemon = startDaemon(node, `neutron.${step}`)
      await Promise.race([daemon.ready, daemon.gone])
      for (const pod of ['a', 'b', 'c']) {
        const ip = await node.address(pod).catch(() => undefined)
        if (ip !== undefined) pods.set(pod, ip)
      }
      if (validity === 'prefix') {
        // A prefix goes as a whole.
        for (const pod of ['b', 'c'])
          await node.del(pod).then(
            () => pods.delete(pod),
            () => undefined,
          )
      }
      // Without a daemon the journal alone is told.
      await node.del('a').catch(() => undefined)
      pods.delete('a')
      if (pods.size > 1)
        await node.del('b').then(
          () => pods.delete('b'),
          () => undefined,
        )
      const late = AbortSignal.timeout(20_000 * slowness)
      const killed = await Promise.race([daemon.gone, once(late, 'abort').then(() => ['not reached'] as const)])
      assert.equal(killed.at(1), 'SIGKILL', `${step} was not reached`)
    }
    await node.start()
    for (const [pod, ip] of pods) assert.equal(await node.address(pod), ip, `${pod} has its address still`)
    for (const pod of ['d', 'e', 'f']) pods.set(pod, await node.address(pod))
    assert.equal(new Set(pods.values()).size, pods.size)
    const usable = async (): Promise<readonly string[]> =>
      validity === 'fixed_ips'
        ? node.held()
        : (await node.ports.list({ network: node.network })).flatMap((port) =>
            port.fixed_ips.map((one) => one.ip_address),
          )
    const held = await usable()
    for (const ip of [...pods.values(), ...own]) assert.ok(held.includes(ip), `${ip} is there`)
    await node.gc()
    await until('nothing is left', async () => (await usable()).length === own.length, 40_000)
    const vm = await node.ports.get(node.port)
    assert.deepEqual([vm.fixed_ips.map(({ ip_address: ip }) => ip), vm.allowed_address_pairs], [own, []])
  })
}
