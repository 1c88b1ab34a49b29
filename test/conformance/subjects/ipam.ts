/** The plugins that give out addresses, called directly as a main plugin calls them. */

import type { Subject } from '../subject.ts'
import { demand } from '../trial.ts'
import { addressesOf } from '../shape.ts'
import { wrong, wrongIpam } from './damage.ts'

const book = { type: 'host-local', ranges: [[{ subnet: '10.88.0.0/24' }]] }
const range = (one: Readonly<Record<string, string>>) => ({ type: 'host-local', ranges: [[one]] })

export const hostLocal: Subject = {
  type: 'host-local',
  role: 'ipam',
  makesLink: false,
  keepsState: true,
  hostLocal: true,
  conf: () => ({ type: 'host-local', ipam: book }),
  damages: [
    {
      id: 'file-gone',
      what: "the address's file was removed",
      basis: 'REF',
      apply: async (t, pod) => {
        const [address = ''] = addressesOf(pod.result ?? {})
        demand(address !== '', 'the result has no address')
        await t.machine.do('rm', `/var/lib/cni/networks/${pod.network}/${address.split('/')[0]}`)
      },
    },
  ],
  refusals: [
    wrongIpam('no-range', 'no range', { type: 'host-local' }),
    wrongIpam('host-bits', 'a subnet with host bits', range({ subnet: '10.88.0.5/24' })),
    wrongIpam('too-small', 'a /31', range({ subnet: '10.88.0.0/31' })),
    wrongIpam('too-small-6', 'a /128', range({ subnet: 'fd00::1/128' })),
    wrongIpam(
      'start-outside',
      'a rangeStart outside of the subnet',
      range({ subnet: '10.88.0.0/24', rangeStart: '10.89.0.5' }),
    ),
    wrongIpam(
      'end-outside',
      'a rangeEnd outside of the subnet',
      range({ subnet: '10.88.0.0/24', rangeEnd: '10.89.0.5' }),
    ),
    wrongIpam(
      'backwards',
      'a rangeEnd before its rangeStart',
      range({ subnet: '10.88.0.0/24', rangeStart: '10.88.0.50', rangeEnd: '10.88.0.40' }),
    ),
    wrongIpam('gateway', 'a gateway that is no address', range({ subnet: '10.88.0.0/24', gateway: 'router' })),
    wrongIpam('families', 'two families in one range set', {
      type: 'host-local',
      ranges: [[{ subnet: '10.88.0.0/24' }, { subnet: 'fd00:88::/64' }]],
    }),
    wrongIpam('overlap', 'ranges that overlap', {
      type: 'host-local',
      ranges: [[{ subnet: '10.88.0.0/24' }], [{ subnet: '10.88.0.0/16' }]],
    }),
    wrongIpam('route', 'a route that is no prefix', { ...book, routes: [{ dst: 'everywhere' }] }),
    wrong('requested-outside', 'a requested address outside of every range', { runtimeConfig: { ips: ['10.99.0.5'] } }),
    wrong('requested-gateway', 'the gateway as requested address', { runtimeConfig: { ips: ['10.88.0.1'] } }),
    wrong('requested-text', 'a requested address that is none', { runtimeConfig: { ips: ['ten'] } }),
  ],
}

const fixed = { type: 'static', addresses: [{ address: '10.88.0.5/24', gateway: '10.88.0.1' }] }

export const staticIpam: Subject = {
  type: 'static',
  role: 'ipam',
  makesLink: false,
  keepsState: false,
  conf: () => ({ type: 'static', ipam: { ...fixed, routes: [{ dst: '0.0.0.0/0' }] } }),
  damages: [],
  refusals: [
    wrongIpam('address', 'an address that is none', { type: 'static', addresses: [{ address: 'ten' }] }),
    wrongIpam('no-length', 'an address without prefix length', {
      type: 'static',
      addresses: [{ address: '10.88.0.5' }],
    }),
    wrongIpam('gateway', 'a gateway that is no address', {
      type: 'static',
      addresses: [{ address: '10.88.0.5/24', gateway: 'router' }],
    }),
    wrongIpam('route', 'a route that is no prefix', { ...fixed, routes: [{ dst: 'everywhere' }] }),
    wrong('requested-text', 'a requested address that is none', { runtimeConfig: { ips: ['ten'] } }),
  ],
}
