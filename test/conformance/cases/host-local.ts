/** The address book host-local: its rules, and what it keeps on disk, on which other tools rest. */

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import type { JsonObject } from '#cni/json.ts'
import type { Basis, Case } from '../case.ts'
import type { Pod } from '../pod.ts'
import { addressesOf, readResult } from '../shape.ts'
import { hostLocal } from '../subjects/ipam.ts'
import { demand, type Trial } from '../trial.ts'

type Row = readonly [
  id: string,
  basis: Basis,
  asserts: string,
  run: (t: Trial) => Promise<unknown>,
  since?: '0.4.0' | '1.1.0',
]

const book = (...ranges: readonly (readonly JsonObject[])[]): JsonObject => ({ ipam: { type: 'host-local', ranges } })
const small = (start: number, end: number): JsonObject => ({
  subnet: '10.88.0.0/24',
  rangeStart: `10.88.0.${start}`,
  rangeEnd: `10.88.0.${end}`,
})

/** The addresses that the next pod gets, without prefix lengths. */
async function next(
  t: Trial,
  conf: JsonObject,
  options: { readonly env?: Readonly<Record<string, string>> } = {},
): Promise<readonly [Pod, readonly string[]]> {
  const pod = await t.pod(hostLocal)
  const addresses = addressesOf(await pod.add({ conf, ...options }))
  return [pod, addresses.map((address) => address.split('/')[0] ?? '')]
}

async function gets(
  t: Trial,
  conf: JsonObject,
  wanted: readonly string[],
  options: { readonly env?: Readonly<Record<string, string>> } = {},
): Promise<Pod> {
  const [pod, found] = await next(t, conf, options)
  demand(found.join() === wanted.join(), `the address is ${found.join(', ')} instead of ${wanted.join(', ')}`)
  return pod
}

async function full(t: Trial, conf: JsonObject): Promise<void> {
  await (await t.pod(hostLocal)).refused('ADD', { conf }, [], 'where nothing should be free')
}

const fileOf = (t: Trial, name: string, folder = '/var/lib/cni/networks/net1'): string =>
  t.machine.outside(`${folder}/${name}`)

const rows: readonly Row[] = [
  [
    'book/first',
    'REF',
    'the gateway is the first address, the first pod gets the second',
    async (t) => {
      const pod = await gets(t, {}, ['10.88.0.2'])
      demand(readResult(pod.result ?? {}).ips[0]?.gateway === '10.88.0.1', 'the gateway is another')
    },
  ],
  [
    'book/round',
    'REF',
    'addresses are given in turn: one that is free again is not given next',
    async (t) => {
      const pod = await gets(t, {}, ['10.88.0.2'])
      await pod.del()
      await gets(t, {}, ['10.88.0.3'])
    },
  ],
  [
    'book/wrap',
    'REF',
    'after the last address comes the first free one',
    async (t) => {
      const conf = book([small(5, 6)])
      const first = await gets(t, conf, ['10.88.0.5'])
      await gets(t, conf, ['10.88.0.6'])
      await first.del({ conf })
      await gets(t, conf, ['10.88.0.5'])
    },
  ],
  [
    'book/inclusive',
    'REF',
    'rangeStart and rangeEnd belong to the range, the gateway does not',
    async (t) => {
      const conf = book([{ ...small(5, 7), gateway: '10.88.0.6' }])
      for (const wanted of ['10.88.0.5', '10.88.0.7']) await gets(t, conf, [wanted])
      await full(t, conf)
    },
  ],
  [
    'book/broadcast',
    'REF',
    'network and broadcast address are not given',
    async (t) => {
      const conf = book([{ subnet: '10.88.0.0/29' }])
      for (let i = 2; i < 7; i++) await gets(t, conf, [`10.88.0.${i}`])
      await full(t, conf)
    },
  ],
  [
    'book/second-pool',
    'REF',
    'when the first range of a set is full the second one serves',
    async (t) => {
      const conf = book([small(5, 5), { subnet: '10.99.0.0/24', rangeStart: '10.99.0.9' }])
      await gets(t, conf, ['10.88.0.5'])
      await gets(t, conf, ['10.99.0.9'])
    },
  ],
  [
    'book/two-sets',
    'REF',
    'each range set gives an address: one of each family',
    (t) => gets(t, book([{ subnet: '10.88.0.0/24' }], [{ subnet: 'fd00:88::/64' }]), ['10.88.0.2', 'fd00:88::2']),
  ],
  [
    'book/two-sets-full',
    'OPS',
    'when the second set is full the first one’s address is given back',
    async (t) => {
      const conf = book([small(5, 6)], [{ subnet: 'fd00:88::/64', rangeStart: 'fd00:88::5', rangeEnd: 'fd00:88::5' }])
      await gets(t, conf, ['10.88.0.5', 'fd00:88::5'])
      await full(t, conf)
      await gets(t, book([small(5, 6)]), ['10.88.0.6'])
    },
  ],
  [
    'book/old-style',
    'REF',
    'subnet, rangeStart, rangeEnd and gateway directly in ipam',
    async (t) => {
      const pod = await gets(t, { ipam: { type: 'host-local', ...small(20, 30), gateway: '10.88.0.9' } }, [
        '10.88.0.20',
      ])
      demand(readResult(pod.result ?? {}).ips[0]?.gateway === '10.88.0.9', 'the gateway is another')
    },
  ],
  [
    'book/capability-ranges',
    'REF',
    'runtimeConfig.ipRanges comes before the configured ranges',
    (t) =>
      gets(t, { ipam: { type: 'host-local' }, runtimeConfig: { ipRanges: [[{ subnet: '10.99.0.0/24' }]] } }, [
        '10.99.0.2',
      ]),
  ],
  [
    'book/asked-capability',
    'REF',
    'runtimeConfig.ips is given',
    (t) => gets(t, { runtimeConfig: { ips: ['10.88.0.77'] } }, ['10.88.0.77']),
  ],
  [
    'book/asked-args',
    'REF',
    'args.cni.ips is given',
    (t) => gets(t, { args: { cni: { ips: ['10.88.0.78'] } } }, ['10.88.0.78']),
  ],
  [
    'book/asked-env',
    'REF',
    'IP in CNI_ARGS is given',
    (t) => gets(t, {}, ['10.88.0.79'], { env: { CNI_ARGS: 'IP=10.88.0.79' } }),
  ],
  [
    'book/asked-taken',
    'REF',
    'an address that is taken is refused to another',
    async (t) => {
      const conf = { runtimeConfig: { ips: ['10.88.0.77'] } }
      await gets(t, conf, ['10.88.0.77'])
      await full(t, conf)
    },
  ],
  [
    'book/again',
    'SPEC',
    'a second ADD of one attachment gives no second address',
    async (t) => {
      const pod = await gets(t, {}, ['10.88.0.2'])
      const answer = await pod.request('ADD')
      const given = answer.code === 0 ? addressesOf(answer.document ?? {}) : []
      demand(answer.code !== 0 || given.join() === '10.88.0.2/24', `it gave ${given.join()}`)
      await gets(t, {}, ['10.88.0.3'])
    },
  ],
  [
    'book/again-keeps',
    'OPS',
    'and the address of the first one stays taken',
    async (t) => {
      const conf = book([small(5, 6)])
      const pod = await gets(t, conf, ['10.88.0.5'])
      await pod.request('ADD', { conf })
      await gets(t, conf, ['10.88.0.6'])
      await full(t, conf)
    },
  ],
  [
    'book/file',
    'REF',
    'an address is a file of that name with container and interface, as other tools expect it',
    async (t) => {
      const pod = await gets(t, {}, ['10.88.0.2'])
      const text = readFileSync(fileOf(t, '10.88.0.2'), 'utf8')
      demand(text === `${pod.containerId}\r\n${pod.ifname}`, `the file holds ${JSON.stringify(text)}`)
      demand(
        readFileSync(fileOf(t, 'last_reserved_ip.0'), 'utf8').trim() === '10.88.0.2',
        'last_reserved_ip.0 holds something else',
      )
    },
  ],
  [
    'book/foreign-file',
    'REF',
    'an address that another implementation’s file holds is not given',
    async (t) => {
      mkdirSync(fileOf(t, ''), { recursive: true })
      writeFileSync(fileOf(t, '10.88.0.2'), 'other\r\neth0')
      await gets(t, {}, ['10.88.0.3'])
    },
  ],
  [
    'book/old-file',
    'REF',
    'a file of the old form, with the container alone, is released by its DEL',
    async (t) => {
      mkdirSync(fileOf(t, ''), { recursive: true })
      const pod = await t.pod(hostLocal)
      writeFileSync(fileOf(t, '10.88.0.5'), pod.containerId)
      await pod.del()
      await gets(t, book([small(5, 5)]), ['10.88.0.5'])
    },
  ],
  [
    'book/data-dir',
    'REF',
    'dataDir is where the files are',
    async (t) => {
      await gets(t, { ipam: { type: 'host-local', dataDir: '/run/books', ranges: [[{ subnet: '10.88.0.0/24' }]] } }, [
        '10.88.0.2',
      ])
      readFileSync(fileOf(t, '10.88.0.2', '/run/books/net1'))
    },
  ],
  [
    'book/foreign-names',
    'OPS',
    'files that are no addresses are no trouble, and stay',
    async (t) => {
      mkdirSync(`${fileOf(t, '')}lost+found`, { recursive: true })
      writeFileSync(fileOf(t, 'README'), 'notes')
      const pod = await gets(t, {}, ['10.88.0.2'])
      await pod.del()
      readFileSync(fileOf(t, 'README'))
    },
  ],
  [
    'book/empty-file',
    'OPS',
    'GC frees the address of an empty file, which a power cut leaves',
    async (t) => {
      mkdirSync(fileOf(t, ''), { recursive: true })
      writeFileSync(fileOf(t, '10.88.0.5'), '')
      const conf = book([small(5, 5)])
      const pod = await t.pod(hostLocal)
      await pod.gc([], { conf })
      await gets(t, conf, ['10.88.0.5'])
    },
    '1.1.0',
  ],
  [
    'book/counter-lost',
    'OPS',
    'a broken last_reserved_ip is no trouble',
    async (t) => {
      mkdirSync(fileOf(t, ''), { recursive: true })
      writeFileSync(fileOf(t, 'last_reserved_ip.0'), '\0\0\0')
      await gets(t, {}, ['10.88.0.2'])
    },
  ],
  [
    'book/routes',
    'REF',
    'routes and the DNS of resolvConf are in the result',
    async (t) => {
      writeFileSync(
        t.machine.outside('/run/resolv.conf'),
        '# ours\nnameserver 192.0.2.53\nsearch a.example b.example\noptions ndots:5\n',
      )
      const pod = await t.pod(hostLocal)
      const document = await pod.add({
        conf: {
          ipam: {
            type: 'host-local',
            ranges: [[{ subnet: '10.88.0.0/24' }]],
            routes: [{ dst: '198.51.100.0/24', gw: '10.88.0.7' }],
            resolvConf: '/run/resolv.conf',
          },
        },
      })
      const { routes } = readResult(document)
      demand(
        routes.length === 1 && routes[0]?.dst === '198.51.100.0/24' && routes[0].gw === '10.88.0.7',
        'the route is not in the result',
      )
      const dns = JSON.stringify(document['dns'])
      demand(
        ['192.0.2.53', 'a.example', 'b.example', 'ndots:5'].every((part) => dns.includes(part)),
        `the DNS is ${dns}`,
      )
    },
  ],
  [
    'book/networks',
    'SPEC',
    'two networks have books of their own',
    async (t) => {
      const conf = book([small(5, 5)])
      await gets(t, conf, ['10.88.0.5'])
      await gets(t, { ...conf, name: 'net2' }, ['10.88.0.5'])
    },
  ],
]

export const hostLocalCases: readonly Case[] = rows.map(([id, basis, asserts, run, since]) => ({
  plugin: 'host-local',
  id,
  basis,
  asserts,
  ...(since === undefined ? {} : { since }),
  run,
}))
