/** The plugin static: addresses from the configuration, and who has the last word on them. */

import type { JsonObject } from '#cni/json.ts'
import type { Basis, Case } from '../case.ts'
import { readResult } from '../shape.ts'
import { staticIpam } from '../subjects/ipam.ts'
import { demand, type Trial } from '../trial.ts'

type Row = readonly [id: string, basis: Basis, asserts: string, run: (t: Trial) => Promise<unknown>, since?: '0.4.0']

async function gives(t: Trial, conf: JsonObject, wanted: readonly string[], args = ''): Promise<JsonObject> {
  const pod = await t.pod(staticIpam)
  const document = await pod.add({ conf, env: { CNI_ARGS: args } })
  const found = readResult(document).ips.map(
    ({ address, gateway }) => `${address}${gateway === undefined ? '' : ` via ${gateway}`}`,
  )
  demand(found.join() === wanted.join(), `it gives ${found.join(', ')} instead of ${wanted.join(', ')}`)
  return document
}

const one = '10.88.0.5/24 via 10.88.0.1'

const rows: readonly Row[] = [
  [
    'static/addresses',
    'REF',
    'all addresses of both families, with their gateways',
    (t) =>
      gives(
        t,
        {
          ipam: {
            type: 'static',
            addresses: [{ address: '10.88.0.5/24', gateway: '10.88.0.1' }, { address: 'fd00:88::5/64' }],
          },
        },
        [one, 'fd00:88::5/64'],
      ),
  ],
  [
    'static/env',
    'REF',
    'IP and GATEWAY of CNI_ARGS are added',
    (t) => gives(t, {}, [one, '10.99.0.5/24 via 10.99.0.1'], 'IP=10.99.0.5/24;GATEWAY=10.99.0.1'),
  ],
  [
    'static/args',
    'REF',
    'args.cni.ips replaces the addresses',
    (t) => gives(t, { args: { cni: { ips: ['10.77.0.5/24'] } } }, ['10.77.0.5/24']),
  ],
  [
    'static/capability',
    'REF',
    'runtimeConfig.ips replaces the addresses',
    (t) => gives(t, { runtimeConfig: { ips: ['10.77.0.6/24'] } }, ['10.77.0.6/24']),
  ],
  [
    'static/routes',
    'REF',
    'routes and DNS are in the result',
    async (t) => {
      const dns = { nameservers: ['192.0.2.53'], domain: 'a.example', search: ['b.example'], options: ['ndots:5'] }
      const ipam = {
        type: 'static',
        addresses: [{ address: '10.88.0.5/24', gateway: '10.88.0.1' }],
        routes: [{ dst: '198.51.100.0/24', gw: '10.88.0.9' }],
        dns,
      }
      const document = await gives(t, { ipam }, [one])
      demand(JSON.stringify(document['routes'] ?? null).includes('198.51.100.0/24'), 'the route is not in the result')
      for (const part of ['192.0.2.53', 'a.example', 'b.example', 'ndots:5'])
        demand(JSON.stringify(document['dns'] ?? null).includes(part), `${part} is not in the DNS`)
    },
  ],
  [
    'static/check',
    'OPS',
    'CHECK fails when the previous result lacks its address',
    async (t) => {
      const pod = await t.pod(staticIpam)
      await pod.add()
      await pod.refused('CHECK', { conf: { ipam: { type: 'static', addresses: [{ address: '10.66.0.5/24' }] } } })
    },
    '0.4.0',
  ],
]

export const staticCases: readonly Case[] = rows.map(([id, basis, asserts, run, since]) => ({
  plugin: 'static',
  id,
  basis,
  asserts,
  ...(since === undefined ? {} : { since }),
  run,
}))
