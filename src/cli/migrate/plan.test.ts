import assert from 'node:assert/strict'
import { test } from 'node:test'

import type { NodeView } from '#flannel/node-view.ts'
import { ipText } from '#ip/address.ts'
import { parseMac } from '#ip/mac.ts'
import { cidrText } from '#ip/prefix.ts'
import type { FlannelEntry } from './entry.ts'
import { dropInText, execStart, homeOf } from './flanneld.ts'
import { judgeEntries } from './stale.ts'

const node = (n: number, annotations: NodeView['annotations']): NodeView => ({
  name: `node-${n}`,
  uid: '',
  created: '',
  podCidrs: [`10.244.${n}.0/24`],
  annotations,
})
const mac = (n: number) => parseMac(`02:00:00:00:00:0${n}`)
const fdb = (n: number): FlannelEntry => ({
  kind: 'fdb',
  dev: 'flannel.1',
  mac: mac(n),
  dst: ipText(`192.0.2.${n}`),
})
const nodes = [
  node(1, {}),
  node(2, { backendData: `{"VtepMAC":"${mac(2)}"}`, publicIp: '192.0.2.2' }),
  node(3, { backendData: 'torn', publicIp: '192.0.2.3' }),
]
const subnetFile = (subnet: string) => ({
  path: '',
  content: { networks: [cidrText('10.244.0.0/16')], subnets: [cidrText(subnet)], mtu: 1450, ipMasq: true },
})
const facts = { cluster: { node: 'node-1', nodes, ahead: undefined }, subnetFile: subnetFile('10.244.1.0/24') }

test('an entry is stale when no node has its subnet or MAC; a node that cannot be read is not gone', () => {
  const judge = judgeEntries(facts)
  assert.deepEqual([2, 3, 4].map(fdb).map(judge), ['fresh', 'fresh', 'stale'])
  const neigh = (n: number): FlannelEntry => ({ kind: 'neigh', dev: 'x', ip: ipText(`10.244.${n}.0`), mac: mac(n) })
  assert.deepEqual([3, 4].map(neigh).map(judge), ['fresh', 'stale'])
})

test('nothing is called stale without a cluster, without a subnet file, or when the two do not agree on this node', () => {
  const all = [
    { ...facts, cluster: 'silent' },
    { ...facts, cluster: { ...facts.cluster, nodes: [] } },
    { ...facts, cluster: { ...facts.cluster, node: 'other' } },
    { ...facts, subnetFile: subnetFile('10.244.8.0/24') },
    { ...facts, subnetFile: { path: '', content: undefined } },
  ]
  for (const one of all) assert.equal(judgeEntries(one)(fdb(4)), 'unknown')
})

test('what a unit executes: the last ExecStart, of its own section, after the last empty one', () => {
  assert.deepEqual(execStart(['[Unit]\nExecStart=/no\n[Service]\nExecStart=/a \\\n -b', '[Service]\nExecStart=']), [])
  assert.deepEqual(execStart(['[Service]\nExecStart=/a \\\n -b']), ['/a   -b'])
})

test('a drop-in keeps prefixes and flags; what is no flanneld, and what would need quotes, is left to people', () => {
  assert.match(
    dropInText('-/opt/bin/flanneld -iface=eth1', '/h') ?? '',
    /\nExecStart=\nExecStart=-\/h flanneld -iface=eth1\n$/,
  )
  assert.match(dropInText('"/opt/bin/flanneld"', '/h') ?? '', /ExecStart=\/h flanneld\n/)
  for (const command of ['/bin/sh -c flanneld', '/opt/bin/flanneld-wrapper', '@/opt/bin/flanneld x', ''])
    assert.equal(dropInText(command, '/h'), undefined, command)
  assert.equal(dropInText('/opt/bin/flanneld', '/a b'), undefined)
})

test('who started a process', () => {
  assert.deepEqual(homeOf('0::/kubepods.slice/kubepods-burstable.slice/cri-1.scope'), { home: 'pod', unit: undefined })
  assert.deepEqual(homeOf('0::/system.slice/flanneld.service'), { home: 'unit', unit: 'flanneld.service' })
  assert.deepEqual(homeOf('0::/user.slice/session-1.scope'), { home: 'other', unit: undefined })
})
