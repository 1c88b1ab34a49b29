/** Agents and charons in namespaces: pods reach each other through ESP, with packets as long as the MTU, and again after either has been killed. */

import assert from 'node:assert/strict'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'

import { run, TestCluster, until, type TestNode } from '../agent/cluster.ts'
import { needsKernel } from '../kernel-features.ts'
import { slowness } from '../slow.ts'
import { Charon, needsCharon } from './charon.ts'

const PSK = '0123456789abcdef'.repeat(6)

for (const udpEncap of [false, true])
  test(
    `ipsec${udpEncap ? ' in UDP: encrypted, whole' : ': encrypted, whole, back after a kill'}`,
    { skip: needsKernel('esp') || needsCharon, timeout: 120_000 * slowness },
    async () => {
      await using cluster = await TestCluster.open({ nodes: 2, backend: { Type: 'ipsec', PSK, UDPEncap: udpEncap } })
      const [a, b] = [cluster.node(0), cluster.node(1)]
      const charonOf = (node: TestNode): Charon => {
        mkdirSync(join(node.root, 'run'), { recursive: true })
        return new Charon(`/run/netns/${node.ns}`, node.root, join(node.root, 'run/charon.vici'))
      }
      const charons = [charonOf(a), charonOf(b)] as const
      try {
        for (const charon of charons) charon.start()
        cluster.startAll()
        await cluster.ready()
        const own = await cluster.annotations('node-0')
        assert.deepEqual([own['backend-type'], own['backend-data']], ['ipsec', 'null'])
        const mtu = 1500 - 77 - (udpEncap ? 8 : 0)
        assert.match(a.run('cat', a.subnetFile), new RegExp(`FLANNEL_MTU=${mtu}\n`))
        const [from, to] = [cluster.pod(a), cluster.pod(b)]
        const isReached = (ns: string, target: string): boolean =>
          / 0% packet loss/.test(
            run(ns, 'ping', '-c', '2', '-i', '0.2', '-W', '5', '-M', 'do', '-s', String(mtu - 28), target),
          )
        await until('the tunnel is up', () => isReached(from, '10.244.1.2'), 60_000)
        assert.ok(isReached(to, '10.244.0.2'))
        const states = charons[0].xfrm('state')
        assert.match(states, /proto esp/)
        assert.equal(/encap type espinudp/.test(states), udpEncap)
        assert.doesNotMatch(a.log + b.log, /0123456789abcdef/)

        // How it comes back is the same for both, and takes long where all is emulated.
        if (udpEncap) return
        // The agent goes: the tunnel stays.
        await cluster.stop(a, 'SIGKILL')
        assert.ok(isReached(from, '10.244.1.2'))
        cluster.start(a)
        await cluster.ready(a)
        assert.ok(isReached(from, '10.244.1.2'))

        // charon dies and forgets; the agent tells it all again.
        await charons[0].stop('SIGKILL')
        charons[0].start()
        await until('the tunnel is back', () => isReached(from, '10.244.1.2'), 90_000)
      } catch (error) {
        throw new Error(
          `${String(error)}\n${charons.map(({ log }) => log.slice(-2000)).join('\n')}\n${a.log.slice(-2000)}`,
          { cause: error },
        )
      } finally {
        for (const charon of charons) await charon.stop('SIGKILL')
      }
    },
  )
