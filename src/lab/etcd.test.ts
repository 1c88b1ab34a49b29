import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'

import { etcdContents, requireEtcd } from './etcd.ts'
import { planLab } from './plan.ts'
import { labSpec } from './spec.ts'

test('a reservation for each node, and last the configuration', () => {
  const contents = etcdContents(planLab(labSpec({ nodes: 2, datastore: 'etcd', ipv6: true })))
  assert.deepEqual(contents.slice(0, 2), [
    [
      '/coreos.com/network/subnets/10.244.1.0-24&fd00:10:244:1::-64',
      '{"PublicIP":"172.30.1.11","PublicIPv6":"fd00:30:1::11"}',
    ],
    [
      '/coreos.com/network/subnets/10.244.2.0-24&fd00:10:244:2::-64',
      '{"PublicIP":"172.30.1.12","PublicIPv6":"fd00:30:1::12"}',
    ],
  ])
  const [key, value] = contents.at(-1) ?? []
  assert.equal(key, '/coreos.com/network/config')
  assert.deepEqual(JSON.parse(value ?? ''), {
    Network: '10.244.0.0/16',
    EnableIPv6: true,
    IPv6Network: 'fd00:10:244::/48',
    Backend: { Type: 'vxlan' },
  })
})

test('a machine without etcd, or with one that is no program', () => {
  const folder = mkdtempSync(join(tmpdir(), 'hdll-'))
  try {
    assert.throws(() => requireEtcd(`:/nonexistent:${folder}`), { name: 'LabError', code: 'no-kernel' })
    writeFileSync(join(folder, 'etcd'), '', { mode: 0o644 })
    assert.throws(() => requireEtcd(folder), { code: 'no-kernel', remedy: /etcd-server/ })
    rmSync(join(folder, 'etcd'))
    writeFileSync(join(folder, 'etcd'), '', { mode: 0o755 })
    requireEtcd(folder)
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test('leases in etcd are of IPv4', () =>
  assert.throws(() => labSpec({ datastore: 'etcd', ipv4: false, ipv6: true }), { code: 'bad-spec' }))
