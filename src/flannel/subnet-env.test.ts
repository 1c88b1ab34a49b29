import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'

import { localNode } from './fixture.ts'
import { formatSubnetEnv, parseSubnetEnv, subnetEnvOf } from './subnet-env.ts'

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

test('what is written is read back', () => {
  for (const local of [localNode(), localNode({ ipv6: true })]) {
    const env = subnetEnvOf(local, 1430)
    assert.deepEqual(parseSubnetEnv(formatSubnetEnv(env)), env)
  }
})

test('half-written files are noticed at every byte; duplicates, quotes and lists are tolerated', () => {
  const whole = formatSubnetEnv(subnetEnvOf(localNode(), 1450))
  for (let i = 0; i < whole.length; i++) assert.equal(parseSubnetEnv(whole.slice(0, i)), undefined, `${i} bytes`)
  assert.equal(parseSubnetEnv(`${whole}FLANNEL_MTU=1400\n`)?.mtu, 1400)
  assert.equal(parseSubnetEnv(`# x\n${whole}OTHER="1"\n`)?.mtu, 1450)
  assert.deepEqual(parseSubnetEnv(whole.replace('=10.0.0.0/8', '="10.0.0.0/8,10.9.0.0/16"'))?.networks[4], [
    '10.0.0.0/8',
    '10.9.0.0/16',
  ])
  assert.equal(parseSubnetEnv(whole.replace('10.244.0.1/24', 'x')), undefined)
  assert.equal(parseSubnetEnv('FLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n'), undefined, 'no subnet')
})

test('no text makes the reader throw', () => {
  fc.assert(
    fc.property(fc.string(), (text) => void parseSubnetEnv(`FLANNEL_SUBNET=${text}\nFLANNEL_NETWORK=${text}\n`)),
  )
})
