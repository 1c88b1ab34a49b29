/** Leases taken from a real etcd: never one subnet for two nodes, reservations, what flannel's nodes wrote. */

import assert from 'node:assert/strict'
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'

import { Acquisition, type Held } from '#agent/etcd/acquisition.ts'
import { silentLog } from '#agent/log.ts'
import { EtcdClient } from '#etcd/client.ts'
import { overlap, parseLeaseKey, type Subnets } from '#flannel/etcd/key.ts'
import { leaseRanges } from '#flannel/etcd/range.ts'
import { parseNetConf } from '#flannel/net-conf.ts'
import { EtcdServer, freePorts, needsEtcdctl } from './server.ts'

const skip = needsEtcdctl
let etcd: EtcdServer
let client: EtcdClient
let count = 0

before(async () => {
  if (skip !== false) return
  etcd = await EtcdServer.start({ folder: mkdtempSync(join(tmpdir(), 'hdlj-acq-')), ports: await freePorts() })
  client = new EtcdClient({ endpoints: [etcd.url] })
})
after(async () => {
  if (skip !== false) return
  client[Symbol.dispose]()
  await etcd[Symbol.asyncDispose]()
})

const V4 = { Network: '10.5.0.0/16', SubnetLen: 24, SubnetMin: '10.5.16.0', SubnetMax: '10.5.31.0' }
const DUAL = { ...V4, EnableIPv6: true, IPv6Network: 'fd00:5::/48', IPv6SubnetLen: 64 }

interface Wish {
  readonly conf?: object
  readonly publicIp: string
  readonly publicIpv6?: string
  readonly previous?: string
  readonly current?: string
  readonly insists?: boolean
}

const subnetsOf = (text: string | undefined): Subnets | undefined =>
  text === undefined ? undefined : parseLeaseKey(text)

function acquire(prefix: string, wish: Wish): Promise<Held | string> {
  const { conf = V4, publicIp, publicIpv6, previous, current, insists = false } = wish
  return new Acquisition({
    client,
    prefix,
    ranges: leaseRanges(parseNetConf(JSON.stringify({ ...conf, Backend: { Type: 'host-gw' } }))),
    ttl: 60,
    previous: subnetsOf(previous),
    current: subnetsOf(current),
    insists,
    attributes: () => ({ publicIp, ...(publicIpv6 === undefined ? {} : { publicIpv6 }), backendType: 'host-gw' }),
    log: silentLog,
  }).run(AbortSignal.timeout(20_000))
}

async function held(prefix: string, wish: Wish): Promise<Held> {
  for (let attempt = 0; attempt < 60; attempt++) {
    const result = await acquire(prefix, wish)
    if (typeof result !== 'string') return result
  }
  throw new Error('never had a lease')
}

const fresh = (): string => `/test/${++count}/subnets/`
const nameOf = ({ key }: Held): string => key.slice(key.lastIndexOf('/') + 1)
/** A subnet that a node which had a random one has not. */
const freeOf = (node: Held): string => (nameOf(node) === '10.5.24.0-24' ? '10.5.25.0' : '10.5.24.0')

for (const [name, conf] of [['IPv4', V4] as const, ['both families', DUAL] as const]) {
  test(`sixteen nodes at once for sixteen subnets of ${name}: each has one of its own`, { skip }, async () => {
    const prefix = fresh()
    const all = await Promise.all(
      Array.from({ length: 16 }, (_, i) =>
        held(prefix, { conf, publicIp: `192.0.2.${i + 1}`, publicIpv6: `2001:db8::${i + 1}` }),
      ),
    )
    for (const [i, one] of all.entries())
      for (const other of all.slice(i + 1))
        assert.equal(overlap(one.subnets, other.subnets), false, `${one.key} ${other.key}`)
    assert.equal(etcd.keys(prefix).size, 16)
    const more = await acquire(prefix, { conf, publicIp: '192.0.2.99', publicIpv6: '2001:db8::99' })
    assert.match(typeof more === 'string' ? more : 'a lease', /every subnet .* is leased/)
  })
}

test('a lease without IPv6 and one with it are never given the same IPv4 subnet', { skip }, async () => {
  const prefix = fresh()
  const narrow = { SubnetMin: '10.5.16.0', SubnetMax: '10.5.17.0' }
  const both = await Promise.all([
    held(prefix, { conf: { ...V4, ...narrow }, publicIp: '192.0.2.1' }),
    held(prefix, { conf: { ...DUAL, ...narrow }, publicIp: '192.0.2.2', publicIpv6: '2001:db8::2' }),
  ])
  assert.equal(overlap(both[0].subnets, both[1].subnets), false)
})

test(
  "what flanneld of this node left is taken on, under the lease that it has; another's is not touched",
  { skip },
  async () => {
    const prefix = fresh()
    const lease = /lease (\w+) granted/.exec(etcd.ctl('lease', 'grant', '77'))?.[1] ?? ''
    const value =
      '{"PublicIP":"192.0.2.1","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"0e:00:00:00:00:01"}}'
    etcd.ctl('put', `--lease=${lease}`, `${prefix}10.5.20.0-24`, value)
    const foreign = value.replace('192.0.2.1', '192.0.2.2')
    etcd.ctl('put', `${prefix}10.5.21.0-24`, foreign)
    const mine = await held(prefix, { publicIp: '192.0.2.1', previous: '10.5.21.0-24' })
    assert.deepEqual(
      [nameOf(mine), mine.lease.toString(16).padStart(16, '0'), mine.how],
      ['10.5.20.0-24', lease, 'kept'],
    )
    assert.deepEqual(
      [...etcd.keys(prefix)],
      [
        [`${prefix}10.5.20.0-24`, '{"PublicIP":"192.0.2.1","PublicIPv6":null,"BackendType":"host-gw"}'],
        [`${prefix}10.5.21.0-24`, foreign],
      ],
    )
  },
)

test('a reservation is used by whom it names, by nobody else, and stays one', { skip }, async () => {
  const prefix = fresh()
  etcd.ctl('put', `${prefix}10.5.16.0-24`, '{"PublicIP":"192.0.2.7"}')
  const others = await Promise.all(
    [1, 2, 3, 4].map((i) => held(prefix, { publicIp: `192.0.2.${i}`, previous: '10.5.16.0-24' })),
  )
  assert.ok(others.every((one) => nameOf(one) !== '10.5.16.0-24'))
  const mine = await held(prefix, { publicIp: '192.0.2.7' })
  assert.deepEqual([nameOf(mine), mine.lease, mine.how, mine.left], ['10.5.16.0-24', 0n, 'reserved', 0])
  const { kv } = await client.get(`${prefix}10.5.16.0-24`)
  assert.deepEqual([kv?.lease, kv?.value.toString().includes('host-gw')], [0n, true])
  // Also where it no longer fits, it is the operator's.
  const moved = await held(prefix, { publicIp: '192.0.2.7', conf: { ...V4, SubnetMin: '10.5.24.0' } })
  assert.equal(moved.how, 'new')
  assert.equal(etcd.keys(prefix).has(`${prefix}10.5.16.0-24`), true)
})

test(
  'the subnet of subnet.env comes back where it is free and fits; a lease that no longer fits is given up',
  { skip },
  async () => {
    const prefix = fresh()
    assert.equal(nameOf(await held(prefix, { publicIp: '192.0.2.1', previous: '10.5.30.0-24' })), '10.5.30.0-24')
    const other = await held(prefix, { publicIp: '192.0.2.2', previous: '10.9.9.0-24' })
    assert.match(nameOf(other), /^10\.5\.(1[6-9]|2\d|3[01])\.0-24$/)
    const only = freeOf(other)
    const moved = await held(prefix, { publicIp: '192.0.2.1', conf: { ...V4, SubnetMin: only, SubnetMax: only } })
    assert.equal(nameOf(moved), `${only}-24`)
    assert.equal(etcd.keys(prefix).has(`${prefix}10.5.30.0-24`), false)
  },
)

test(
  'who runs pods in a subnet that another has now insists for a while, then takes another; its own old leases go',
  { skip },
  async () => {
    const prefix = fresh()
    const taken = await held(prefix, { publicIp: '192.0.2.2', previous: '10.5.20.0-24' })
    const wish = { publicIp: '192.0.2.1', current: '10.5.20.0-24' }
    assert.match(
      JSON.stringify(await acquire(prefix, { ...wish, insists: true }), (_, value: unknown) =>
        typeof value === 'bigint' ? 'a lease' : value,
      ),
      /10\.5\.20\.0-24 is in use here, and leased by 192\.0\.2\.2/,
    )
    assert.equal(etcd.keys(prefix).size, 1)
    const other = await held(prefix, wish)
    assert.notEqual(other.key, taken.key)
    // The other way round: a lease from an old copy that bears our address does not lure us away from where our pods are.
    const old = `${prefix}${freeOf(other)}-24`
    await client.put(old, '{"PublicIP":"192.0.2.1"}', (await client.grant(60)).id)
    const same = await held(prefix, { publicIp: '192.0.2.1', current: nameOf(other) })
    assert.equal(same.key, other.key)
    assert.equal(etcd.keys(prefix).has(old), false)
  },
)

test(
  'damaged and enormous leases take their subnets and harm nobody else; one that claims everything claims nothing',
  { skip },
  async () => {
    const prefix = fresh()
    for (let i = 16; i < 30; i++) await client.put(`${prefix}10.5.${i}.0-24`, 'x'.repeat(10_000), 0n)
    await client.put(`${prefix}10.0.0.0-8`, '{}', 0n)
    await client.put(`${prefix}nonsense`, '{}', 0n)
    const mine = await held(prefix, { publicIp: '192.0.2.1' })
    assert.match(nameOf(mine), /^10\.5\.3[01]\.0-24$/)
  },
)
