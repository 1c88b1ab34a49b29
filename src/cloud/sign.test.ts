/** Signatures against the examples that the clouds publish. */

import assert from 'node:assert/strict'
import { test } from 'node:test'

import { Secret } from '#sys/secret.ts'
import { signRpc, canonicalQuery } from './sign-rpc.ts'
import { signTc3 } from './sign-tc3.ts'
import { basicTime, signV4 } from './sign-v4.ts'

const secret = (text: string): Secret => new Secret(Buffer.from(text))

test('Alibaba Cloud: DescribeRegions of the documentation', () => {
  const parameters = {
    TimeStamp: '2016-02-23T12:46:24Z',
    Format: 'XML',
    AccessKeyId: 'testid',
    Action: 'DescribeRegions',
    SignatureMethod: 'HMAC-SHA1',
    SignatureNonce: '3ee8c1b8-83d3-44af-a94f-4e0ad82fd6cf',
    Version: '2014-05-26',
    SignatureVersion: '1.0',
  }
  const { TimeStamp, ...rest } = parameters
  assert.equal(signRpc('GET', { ...rest, Timestamp: TimeStamp }, secret('testsecret')), 'OLeaidS1JvxuMvnyHOwuJ+uX5qY=')
})

test('what RFC 3986 escapes and encodeURIComponent does not', () => {
  assert.equal(canonicalQuery({ b: "*'()! ~/", A: '中' }), 'A=%E4%B8%AD&b=%2A%27%28%29%21%20~%2F')
})

const aws = { id: 'AKIDEXAMPLE', secret: secret('wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY') }
const at = Date.UTC(2015, 7, 30, 12, 36)

const suite = [
  {
    name: 'get-vanilla',
    request: { method: 'GET', query: '', headers: { host: 'example.amazonaws.com' }, body: '' },
    signature: '5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31',
  },
  {
    name: 'get-vanilla-query-order-key-case',
    request: {
      method: 'GET',
      query: 'Param1=value1&Param2=value2',
      headers: { host: 'example.amazonaws.com' },
      body: '',
    },
    signature: 'b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500',
  },
  {
    name: 'post-vanilla',
    request: { method: 'POST', query: '', headers: { host: 'example.amazonaws.com' }, body: '' },
    signature: '5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b',
  },
  {
    name: 'post-x-www-form-urlencoded',
    request: {
      method: 'POST',
      query: '',
      headers: { host: 'example.amazonaws.com', 'content-type': 'application/x-www-form-urlencoded' },
      body: 'Param1=value1',
    },
    signature: 'ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a',
  },
] as const

for (const { name, request, signature } of suite)
  test(`AWS: ${name} of the test suite for Signature Version 4`, () => {
    const headers = signV4({ ...request, path: '/', region: 'us-east-1', service: 'service', at }, aws)
    assert.ok(headers['authorization']?.endsWith(`Signature=${signature}`), headers['authorization'])
    assert.equal(headers['x-amz-date'], '20150830T123600Z')
  })

test('AWS: the token of temporary keys is sent and signed', () => {
  const headers = signV4(
    { ...suite[2].request, path: '/', region: 'us-east-1', service: 'service', at },
    { ...aws, token: secret('token') },
  )
  assert.equal(headers['x-amz-security-token'], 'token')
  assert.match(headers['authorization'] ?? '', /SignedHeaders=host;x-amz-date;x-amz-security-token/)
})

test('Tencent Cloud: DescribeInstances of the documentation; each part changes the signature', () => {
  const request = {
    service: 'cvm',
    headers: { 'content-type': 'application/json; charset=utf-8', host: 'cvm.tencentcloudapi.com' },
    body: String.raw`{"Limit": 1, "Filters": [{"Values": ["\u672a\u547d\u540d"], "Name": "instance-name"}]}`,
    at: 1_551_113_065_000,
  }
  const keys = { id: 'AKIDz8krbsJ5yKBZQpn74WFkmLPx3EXAMPLE', secret: secret('Gu5t9xGARNpq86cd98joQYCN3EXAMPLE') }
  assert.equal(
    signTc3(request, keys),
    'TC3-HMAC-SHA256 Credential=AKIDz8krbsJ5yKBZQpn74WFkmLPx3EXAMPLE/2019-02-25/cvm/tc3_request, SignedHeaders=content-type;host, Signature=72e494ea809ad7a8c8f7a4507b9bddcbaa8e581f516e8da2f66e2c5a96525168',
  )
  const signatures = [{}, { headers: {} }, { service: 'vpc' }, { body: '{}' }, { at: 0 }].map(
    (other) => signTc3({ ...request, ...other }, keys).split('Signature=')[1],
  )
  assert.equal(new Set(signatures).size, signatures.length)
})

test('times', () => assert.equal(basicTime(at + 999), '20150830T123600Z'))
