/** The plugins that make an interface. */

import type { Subject } from '../subject.ts'
import type { Trial } from '../trial.ts'
import {
  hostLinkOf,
  inPod,
  ipamTraversal,
  kindDamage,
  lanIpam,
  linkDamages,
  noSuchIpam,
  routeDamage,
  rulesDamage,
  wrong,
} from './damage.ts'

/** A link of the host, `up0`, whose other end is a LAN. */
async function withMaster(trial: Trial): Promise<void> {
  await trial.machine.do('ip', 'link', 'add', 'up0', 'type', 'veth', 'peer', 'name', 'lan0')
  for (const name of ['up0', 'lan0']) await trial.machine.do('ip', 'link', 'set', name, 'up')
}

const delegated = { also: ['host-local'], makesLink: true, keepsState: true, hostLocal: true } as const
const delegation = [noSuchIpam, ipamTraversal]
const pods = [...linkDamages, routeDamage, kindDamage]

export const bridge: Subject = {
  ...delegated,
  type: 'bridge',
  role: 'main',
  conf: () => ({ type: 'bridge', bridge: 'br0', isGateway: true, ipMasq: true, ipam: lanIpam }),
  damages: [
    ...pods,
    rulesDamage,
    {
      id: 'port-off',
      what: 'its port was taken off the bridge',
      apply: (t, pod) => t.machine.do('ip', 'link', 'set', hostLinkOf(pod), 'nomaster'),
    },
    {
      id: 'port-down',
      what: 'its host end was set down',
      basis: 'OPS',
      apply: (t, pod) => t.machine.do('ip', 'link', 'set', hostLinkOf(pod), 'down'),
    },
    {
      id: 'gateway-gone',
      what: "the bridge's address was removed",
      basis: 'OPS',
      apply: (t) => t.machine.do('ip', 'address', 'flush', 'dev', 'br0'),
    },
  ],
  refusals: [
    ...delegation,
    wrong('hairpin-promisc', 'hairpinMode together with promiscMode', { hairpinMode: true, promiscMode: true }),
    wrong('vlan-range', 'vlan 4095', { vlan: 4095 }),
    wrong('vlan-negative', 'vlan -1', { vlan: -1 }),
    wrong('trunk-zero', 'vlanTrunk with id 0', { vlanTrunk: [{ id: 0 }] }),
    wrong('trunk-half', 'vlanTrunk with minID and no maxID', { vlanTrunk: [{ minID: 10 }] }),
    wrong('trunk-backwards', 'vlanTrunk with minID above maxID', { vlanTrunk: [{ minID: 20, maxID: 10 }] }),
    wrong('no-interface', 'disableContainerInterface together with ipam', { disableContainerInterface: true }),
    wrong('long-name', 'a bridge name of 16 bytes', { bridge: 'a-long-bridge-nm' }, 'OPS'),
    wrong('not-a-bridge', 'a bridge name that is another link’s', { bridge: 'lo' }),
    wrong('mac', 'runtimeConfig.mac that is no MAC', { runtimeConfig: { mac: 'no-mac' } }),
    wrong('type-of-field', 'isGateway that is text', { isGateway: 'yes' }),
  ],
}

export const ptp: Subject = {
  ...delegated,
  type: 'ptp',
  role: 'main',
  conf: () => ({ type: 'ptp', ipMasq: true, ipam: lanIpam }),
  damages: [
    ...pods,
    rulesDamage,
    {
      id: 'host-route-gone',
      what: "the host's route to it was removed",
      basis: 'OPS',
      apply: (t, pod) => t.machine.do('ip', 'route', 'flush', 'dev', hostLinkOf(pod)),
    },
  ],
  refusals: [
    ...delegation,
    wrong('no-ipam', 'no ipam', { ipam: undefined }),
    wrong('mtu', 'mtu that is text', { mtu: 'x' }),
  ],
}

const onMaster = { ...delegated, role: 'main', prepare: withMaster, damages: pods } as const
const masterRefusals = [
  ...delegation,
  wrong('master-missing', 'a master that does not exist', { master: 'absent0' }),
  wrong('mtu-range', "an mtu above the master's", { mtu: 9000 }),
  wrong('mtu-negative', 'mtu -1', { mtu: -1 }),
]

export const macvlan: Subject = {
  ...onMaster,
  type: 'macvlan',
  needs: ['macvlan'],
  conf: () => ({ type: 'macvlan', master: 'up0', ipam: lanIpam }),
  refusals: [
    ...masterRefusals,
    wrong('mode', 'a mode that there is not', { mode: 'bridged' }),
    wrong('mac', 'a MAC that is none', { mac: 'zz:00:00:00:00:01' }),
  ],
}

export const ipvlan: Subject = {
  ...onMaster,
  type: 'ipvlan',
  needs: ['ipvlan'],
  conf: () => ({ type: 'ipvlan', master: 'up0', ipam: lanIpam }),
  refusals: [
    ...masterRefusals,
    wrong('mode', 'a mode that there is not', { mode: 'l4' }),
    wrong('no-ipam', 'no ipam and no previous result', { ipam: undefined }),
  ],
}

export const vlan: Subject = {
  ...onMaster,
  type: 'vlan',
  needs: ['vlan'],
  conf: (n) => ({ type: 'vlan', master: 'up0', vlanId: 100 + n, ipam: lanIpam }),
  refusals: [
    ...masterRefusals,
    wrong('id-range', 'vlanId 4095', { vlanId: 4095 }),
    wrong('id-negative', 'vlanId -1', { vlanId: -1 }),
    wrong('no-master', 'no master', { master: undefined }),
  ],
}

export const dummy: Subject = {
  ...delegated,
  type: 'dummy',
  role: 'main',
  needs: ['dummy'],
  conf: () => ({ type: 'dummy', ipam: { ...lanIpam, routes: [] } }),
  damages: [...linkDamages, kindDamage],
  refusals: [...delegation, wrong('no-ipam', 'no ipam', { ipam: undefined })],
}

export const tap: Subject = {
  ...delegated,
  type: 'tap',
  role: 'main',
  conf: () => ({ type: 'tap', owner: 0, group: 0, ipam: lanIpam }),
  damages: [...linkDamages, kindDamage],
  refusals: [
    ...delegation,
    wrong('mac', 'a MAC that is none', { mac: 'zz:00:00:00:00:01' }),
    wrong('bridge', 'a bridge that is not in the pod', { bridge: 'absent0' }),
  ],
}

export const hostDevice: Subject = {
  ...delegated,
  type: 'host-device',
  role: 'main',
  before: async (t, pod) => {
    await t.machine.do('ip', 'link', 'add', `dev${pod.n}`, 'type', 'veth', 'peer', 'name', `wire${pod.n}`)
    await t.machine.do('ip', 'link', 'set', `wire${pod.n}`, 'up')
    return undefined
  },
  after: (t, pod) => t.machine.run(['ip', 'link', 'delete', `wire${pod.n}`]),
  device: (n) => `dev${n}`,
  conf: (n) => ({ type: 'host-device', device: `dev${n}`, ipam: lanIpam }),
  damages: [...linkDamages, routeDamage],
  refusals: [
    ...delegation,
    wrong('no-device', 'nothing that names a device', { device: undefined }),
    wrong('absent', 'a device that does not exist', { device: 'absent0' }),
    wrong('hwaddr', 'a hwaddr that no device has', { device: undefined, hwaddr: '02:00:00:00:00:99' }),
    wrong('pci', 'a pciBusID that is a path', { device: undefined, pciBusID: '../../../etc' }, 'OPS'),
    wrong('kernelpath', 'a kernelpath outside of /sys/devices', { device: undefined, kernelpath: '/etc' }),
  ],
}

export const loopback: Subject = {
  type: 'loopback',
  role: 'main',
  makesLink: false,
  keepsState: false,
  conf: () => ({ type: 'loopback' }),
  damages: [
    {
      id: 'link-down',
      what: 'lo was set down',
      basis: 'REF',
      apply: (t, pod) => inPod(t, pod, 'link', 'set', 'lo', 'down'),
    },
  ],
  refusals: [],
}
