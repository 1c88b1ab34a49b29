import assert from 'node:assert/strict'
import { test } from 'node:test'

import { localNode } from './fixture.ts'
import { parseSubnetEnv } from '#plugins/flannel/subnet-env.ts'
import { formatSubnetEnv, subnetEnvOf } from './subnet-env.ts'

test('byte for byte as flannel writes it', () => {
  assert.equal(
    formatSubnetEnv(subnetEnvOf(localNode(), 1450)),
    'FLANNEL_NETWORK=10.0.0.0/8\nFLANNEL_SUBNET=10.244.0.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n',
  )
  assert.equal(
    formatSubnetEnv(subnetEnvOf(localNode({ ipv6: true }), 1430)),
    'FLANNEL_NETWORK=10.0.0.0/8\nFLANNEL_SUBNET=10.244.0.1/24\nFLANNEL_IPV6_NETWORK=fd00:244::/32\nFLANNEL_IPV6_SUBNET=fd00:244::1/64\nFLANNEL_MTU=1430\nFLANNEL_IPMASQ=true\n',
  )
})

test('our plugin reads it back, and nothing that was cut off', () => {
  const text = formatSubnetEnv(subnetEnvOf(localNode({ ipv6: true }), 1430))
  assert.deepEqual(parseSubnetEnv(text), {
    networks: ['10.0.0.0/8', 'fd00:244::/32'],
    subnets: ['10.244.0.0/24', 'fd00:244::/64'],
    mtu: 1430,
    ipMasq: true,
  })
  for (let i = 0; i < text.length - 1; i++)
    assert.equal(typeof parseSubnetEnv(text.slice(0, i)), 'string', `${i} bytes`)
})
