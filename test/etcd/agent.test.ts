/** Agents with leases in a real etcd. */

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'

import { EtcdCluster, reaches } from './cluster.ts'
import { needsEtcdctl } from './server.ts'

test(
  'two nodes lease a subnet each, as flannel writes it, and their pods reach each other',
  { skip: needsEtcdctl },
  async () => {
    await using lab = await EtcdCluster.open({ nodes: 2 })
    await lab.startAll()
    const [a, b] = [lab.cluster.node(0), lab.cluster.node(1)]
    const leases = lab.leases()
    assert.deepEqual([...leases.keys()].toSorted(), [lab.key(a), lab.key(b)].toSorted())
    const mac = a.json('ip', 'link', 'show', 'flannel.1')[0]?.['address']
    assert.equal(
      leases.get(lab.key(a)),
      `{"PublicIP":"192.0.2.1","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"${String(mac)}"}}`,
    )
    const gateway = lab.subnet(a).replace('.0/', '.1/')
    assert.equal(
      readFileSync(a.subnetFile, 'utf8'),
      `FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=${gateway}\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n`,
    )
    await reaches(lab.pod(a), lab.pod(b))
  },
)
