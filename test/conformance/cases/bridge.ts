/** The plugin bridge, field by field, with real packets where the field is about them. */

import type { JsonObject } from '#cni/json.ts'
import type { KernelFeature } from '../../kernel-features.ts'
import type { Basis, Case } from '../case.ts'
import type { Pod } from '../pod.ts'
import { addressesOf, readResult } from '../shape.ts'
import { hostLinkOf, lanIpam } from '../subjects/damage.ts'
import { bridge } from '../subjects/main.ts'
import { demand, type Trial } from '../trial.ts'

type Row = readonly [
  id: string,
  basis: Basis,
  asserts: string,
  run: (t: Trial) => Promise<unknown>,
  needs?: readonly KernelFeature[],
]

async function added(t: Trial, conf: JsonObject = {}, env: Readonly<Record<string, string>> = {}): Promise<Pod> {
  const pod = await t.pod(bridge)
  await pod.add({ conf, env })
  return pod
}

const onHost = (t: Trial, ...args: string[]): Promise<string> => t.machine.do('ip', '-d', ...args)
const inside = (t: Trial, pod: Pod, ...args: string[]): Promise<string> => t.machine.in(pod.netns, 'ip', ...args)
const addressOf = (pod: Pod): string => addressesOf(pod.result ?? {})[0]?.split('/')[0] ?? ''

/** Several tries: the machine may be busy. */
async function pings(t: Trial, pod: Pod, address: string, tries = 3): Promise<boolean> {
  for (let i = 0; i < tries; i++) {
    const { code } = await t.machine.run(['ping', '-c1', '-W1', address], '', pod.netns)
    if (code === 0) return true
  }
  return false
}

async function has(text: Promise<string>, part: string | RegExp, what: string): Promise<void> {
  const found = await text
  demand(typeof part === 'string' ? found.includes(part) : part.test(found), what)
}

const mac = (n: number): string => `02:00:00:00:00:0${n}`

const rows: readonly Row[] = [
  [
    'bridge/reach',
    'REF',
    'pods of a bridge reach each other and their gateway',
    async (t) => {
      const [one, two] = [await added(t), await added(t)]
      demand(await pings(t, one, '10.88.0.1'), 'the gateway does not answer')
      demand(await pings(t, one, addressOf(two)), 'the other pod does not answer')
    },
  ],
  ['bridge/masquerade', 'REF', 'with ipMasq a host outside sees the node, without it the pod', masquerade],
  [
    'bridge/default-gateway',
    'REF',
    'isDefaultGateway gives a default route, in the result too',
    async (t) => {
      const pod = await added(t, { isDefaultGateway: true, ipam: { ...lanIpam, routes: [] } })
      await has(inside(t, pod, 'route', 'show', 'default'), 'via 10.88.0.1', 'there is no default route')
      demand(
        readResult(pod.result ?? {}).routes.some(({ dst }) => dst === '0.0.0.0/0'),
        'the result has none',
      )
    },
  ],
  [
    'bridge/no-gateway',
    'REF',
    'without isGateway the bridge gets no address',
    async (t) => {
      await added(t, { isGateway: false })
      demand((await onHost(t, '-4', '-o', 'address', 'show', 'dev', 'br0')).trim() === '', 'the bridge has an address')
    },
  ],
  [
    'bridge/mtu',
    'REF',
    'mtu is that of the bridge and of both ends',
    async (t) => {
      const pod = await added(t, { mtu: 1400 })
      await has(onHost(t, 'link', 'show', 'br0'), 'mtu 1400', 'not of the bridge')
      await has(onHost(t, 'link', 'show', hostLinkOf(pod)), 'mtu 1400', 'not of the host’s end')
      await has(inside(t, pod, 'link', 'show', pod.ifname), 'mtu 1400', 'not of the pod’s end')
    },
  ],
  [
    'bridge/hairpin',
    'REF',
    'hairpinMode is set on the port',
    async (t) => {
      const pod = await added(t, { hairpinMode: true })
      await has(onHost(t, 'link', 'show', hostLinkOf(pod)), 'hairpin on', 'hairpin is off')
    },
  ],
  [
    'bridge/promisc',
    'REF',
    'promiscMode is set on the bridge',
    async (t) => {
      await added(t, { promiscMode: true })
      await has(onHost(t, 'link', 'show', 'br0'), 'PROMISC', 'the bridge is not promiscuous')
    },
  ],
  [
    'bridge/isolation',
    'REF',
    'portIsolation keeps pods of a bridge apart',
    async (t) => {
      const [one, two] = [await added(t, { portIsolation: true }), await added(t, { portIsolation: true })]
      await has(onHost(t, 'link', 'show', hostLinkOf(one)), 'isolated on', 'the port is not isolated')
      demand(await pings(t, one, '10.88.0.1'), 'the gateway does not answer')
      demand(!(await pings(t, one, addressOf(two), 1)), 'the other pod answers')
    },
  ],
  [
    'bridge/spoof',
    'REF',
    'macspoofchk drops frames from another MAC',
    async (t) => {
      const pod = await added(t, { macspoofchk: true })
      demand(await pings(t, pod, '10.88.0.1'), 'the gateway does not answer')
      await inside(t, pod, 'link', 'set', pod.ifname, 'address', mac(9))
      demand(!(await pings(t, pod, '10.88.0.1', 1)), 'a frame from another MAC passed')
    },
  ],
  [
    'bridge/mac-capability',
    'REF',
    'runtimeConfig.mac wins over args, args over CNI_ARGS',
    async (t) => {
      const args = { cni: { mac: mac(2) } }
      const env = { CNI_ARGS: `IgnoreUnknown=1;MAC=${mac(1)}` }
      for (const [conf, wanted] of [
        [{}, mac(1)],
        [{ args }, mac(2)],
        [{ args, runtimeConfig: { mac: mac(3) } }, mac(3)],
      ] as const) {
        const pod = await added(t, conf, env)
        await has(inside(t, pod, 'link', 'show', pod.ifname), wanted, `the MAC is not ${wanted}`)
      }
    },
  ],
  [
    'bridge/layer-2',
    'REF',
    'without ipam the interface is up and has no address',
    async (t) => {
      const pod = await added(t, { ipam: {}, isGateway: false, ipMasq: false })
      await has(inside(t, pod, 'link', 'show', pod.ifname), /[<,]UP[,>]/, 'it is down')
      demand((await inside(t, pod, '-4', '-o', 'address', 'show', pod.ifname)).trim() === '', 'it has an address')
    },
  ],
  [
    'bridge/existing',
    'REF',
    'a bridge that is there is used as it is',
    async (t) => {
      await t.machine.do('ip', 'link', 'add', 'br0', 'address', mac(7), 'type', 'bridge')
      await added(t)
      await has(onHost(t, 'link', 'show', 'br0'), mac(7), 'its MAC is another')
    },
  ],
  [
    'bridge/conflict',
    'REF',
    'another IPv4 address of the bridge is an error that names both',
    async (t) => {
      await t.machine.do('ip', 'link', 'add', 'br0', 'type', 'bridge')
      await t.machine.do('ip', 'address', 'add', '192.0.2.1/24', 'dev', 'br0')
      const answer = await (await t.pod(bridge)).refused('ADD')
      const text = JSON.stringify(answer.document)
      demand(text.includes('already has an IP address different from'), `the error is ${text}`)
    },
  ],
  [
    'bridge/force',
    'REF',
    'forceAddress replaces it',
    async (t) => {
      await t.machine.do('ip', 'link', 'add', 'br0', 'type', 'bridge')
      await t.machine.do('ip', 'address', 'add', '192.0.2.1/24', 'dev', 'br0')
      await added(t, { forceAddress: true })
      const shown = await onHost(t, '-4', '-o', 'address', 'show', 'dev', 'br0')
      demand(shown.includes('10.88.0.1/24') && !shown.includes('192.0.2.1'), `the bridge has ${shown}`)
    },
  ],
  [
    'bridge/dns',
    'REF',
    'dns of the configuration is in the result',
    async (t) => {
      const pod = await added(t, { dns: { nameservers: ['192.0.2.53'], domain: 'a.example' } })
      demand(JSON.stringify(pod.result?.['dns'] ?? null).includes('192.0.2.53'), 'it is not')
    },
  ],
  [
    'bridge/interfaces',
    'REF',
    'the result names the bridge, the host’s end, the pod’s end, in this order',
    async (t) => {
      const pod = await added(t)
      const names = readResult(pod.result ?? {}).interfaces.map(({ name }) => name)
      demand(
        names.length === 3 && names[0] === 'br0' && names[1] === hostLinkOf(pod) && names[2] === 'eth0',
        names.join(),
      )
    },
  ],
  [
    'bridge/down',
    'REF',
    'disableContainerInterface leaves the pod’s end down',
    async (t) => {
      const pod = await added(t, { ipam: {}, isGateway: false, ipMasq: false, disableContainerInterface: true })
      demand(!/[<,]UP[,>]/.test(await inside(t, pod, 'link', 'show', pod.ifname)), 'it is up')
    },
  ],
  [
    'bridge/dual-stack',
    'REF',
    'both families: addresses at once usable, gateways, routes',
    async (t) => {
      const ranges = [[{ subnet: '10.88.0.0/24' }], [{ subnet: 'fd00:88::/64' }]]
      const routes = [{ dst: '0.0.0.0/0' }, { dst: '::/0' }]
      const pod = await added(t, { ipam: { type: 'host-local', ranges, routes } })
      demand(
        !(await inside(t, pod, '-6', 'address', 'show', pod.ifname)).includes('tentative'),
        'an address is tentative',
      )
      for (const gateway of ['10.88.0.1', 'fd00:88::1'])
        demand(await pings(t, pod, gateway), `${gateway} does not answer`)
    },
  ],
  [
    'bridge/router-advertisement',
    'OPS',
    'the host’s ends do not listen to router advertisements (CVE-2020-10749)',
    async (t) => {
      const pod = await added(t)
      for (const name of ['br0', hostLinkOf(pod)]) {
        const value = await t.machine.do('cat', `/proc/sys/net/ipv6/conf/${name}/accept_ra`)
        demand(value.trim() === '0', `accept_ra of ${name} is ${value.trim()}`)
      }
    },
  ],
  [
    'bridge/vlan',
    'REF',
    'pods of two VLANs of a bridge do not reach each other, those of one do',
    vlans,
    ['bridge VLAN filtering'],
  ],
  ['bridge/trunk', 'REF', 'vlanTrunk lets its VLANs pass tagged', trunk, ['bridge VLAN filtering']],
]

async function masquerade(t: Trial): Promise<void> {
  const outside = await t.machine.pod()
  const name = outside.slice('/run/netns/'.length)
  await t.machine.do('ip', 'link', 'add', 'out0', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', name)
  await t.machine.do('ip', 'address', 'add', '203.0.113.1/24', 'dev', 'out0')
  await t.machine.do('ip', 'link', 'set', 'out0', 'up')
  await t.machine.in(outside, 'ip', 'address', 'add', '203.0.113.2/24', 'dev', 'eth0')
  await t.machine.in(outside, 'ip', 'link', 'set', 'eth0', 'up')
  // It knows no way back to a pod.
  const [hidden, plain] = [await added(t), await added(t, { ipMasq: false })]
  demand(await pings(t, hidden, '203.0.113.2'), 'a masqueraded pod gets no answer')
  demand(!(await pings(t, plain, '203.0.113.2', 1)), 'a pod without ipMasq got an answer')
}

async function vlans(t: Trial): Promise<void> {
  const conf = (vlan: number): JsonObject => ({ vlan, isGateway: false, ipMasq: false })
  const [one, two, other] = [await added(t, conf(10)), await added(t, conf(10)), await added(t, conf(20))]
  demand(await pings(t, one, addressOf(two)), 'pods of one VLAN do not reach each other')
  demand(!(await pings(t, one, addressOf(other), 1)), 'pods of two VLANs reach each other')
}

async function trunk(t: Trial): Promise<void> {
  const pod = await added(t, { vlanTrunk: [{ minID: 30, maxID: 31 }, { id: 40 }], isGateway: false, ipMasq: false })
  const shown = await t.machine.do('bridge', '-j', 'vlan', 'show', 'dev', hostLinkOf(pod))
  for (const id of [30, 31, 40])
    demand(new RegExp(`"vlan":${id}\\b|"vlanEnd":${id}\\b`).test(shown), `VLAN ${id} does not pass`)
}

export const bridgeCases: readonly Case[] = rows.map(([id, basis, asserts, run, needs]) => ({
  plugin: 'bridge',
  also: ['host-local'],
  id,
  basis,
  asserts,
  ...(needs === undefined ? {} : { needs }),
  run,
}))
