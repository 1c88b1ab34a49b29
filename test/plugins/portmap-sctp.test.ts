import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { test } from 'node:test'
import { bridge } from '#plugins/bridge/plugin.ts'
import { portmap } from '#plugins/portmap/plugin.ts'
import { NetworkHost, run } from './network-host.ts'
import { inputOf } from './input.ts'
import { needsKernel } from '../kernel-features.ts'
import { needsProgram } from '../namespace.ts'
import { slowness } from '../slow.ts'

const program = new URL('./sctp-end.ts', import.meta.url).pathname

/** Answers one connection in a namespace. */
async function serve(netns: string, port: number, answer: string): Promise<Disposable> {
  const child = spawn('nsenter', [`--net=${netns}`, process.execPath, program, 'serve', String(port), answer], {
    stdio: ['ignore', 'pipe', 'inherit'],
    timeout: 60_000 * slowness,
    killSignal: 'SIGKILL',
  })
  await once(child.stdout, 'data')
  return { [Symbol.dispose]: () => void child.kill('SIGKILL') }
}

const ask = async (netns: string, to: string, port: number): Promise<string> => {
  const args = [`--net=${netns}`, process.execPath, program, 'ask', to, String(port)]
  return (await run('nsenter', args, { timeout: 10_000 * slowness, killSignal: 'SIGKILL' })).stdout
}

for (const backend of ['nftables', 'iptables'])
  test(
    `${backend}: SCTP connections to a port of the host reach the pod`,
    { skip: needsKernel('sctp') || needsProgram('iptables', 'iptables'), timeout: 120_000 * slowness },
    async () => {
      using made = new NetworkHost()
      const [a, b] = [made.pod(), made.pod()]
      const conf = {
        name: 'net1',
        type: 'bridge',
        bridge: 'br0',
        isDefaultGateway: true,
        ipam: { type: 'host-local', ranges: [[{ subnet: '10.77.0.0/24' }]] },
      }
      const prevResult = await bridge.add(inputOf(conf, { containerId: 'a', netns: a }), made.host)
      await bridge.add(inputOf(conf, { containerId: 'b', netns: b }), made.host)
      const portMappings = [{ hostPort: 8000, containerPort: 8080, protocol: 'SCTP' }]
      const ports = { name: 'net1', type: 'portmap', backend, runtimeConfig: { portMappings } }
      const input = inputOf(ports, { containerId: 'a', netns: a, prevResult })
      await portmap.add(input, made.host)
      await portmap.check(input, made.host)
      for (const [who, netns, to] of [
        ['a neighbour', b, '10.77.0.1'],
        ['the host itself', made.path, '10.77.0.1'],
        ['the host itself over 127.0.0.1', made.path, '127.0.0.1'],
      ] as const) {
        using _server = await serve(a, 8080, 'sctp')
        assert.equal(await ask(netns, to, 8000), 'sctp', who)
      }
      await portmap.del(input, made.host)
      await assert.rejects(portmap.check(input, made.host), { code: 100, message: /8000\/sctp/ })
    },
  )
