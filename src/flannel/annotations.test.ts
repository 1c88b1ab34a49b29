import assert from 'node:assert/strict'
import { test } from 'node:test'

import { ipText } from '#ip/address.ts'
import { parseMac } from '#ip/mac.ts'
import { annotationKeys, annotationPatch, ownAnnotations, readAnnotations } from './annotations.ts'
import { FlannelError } from './errors.ts'

const mac = parseMac('7a:0b:0c:0d:0e:0f')

test('names under a prefix follow flannel’s rule', () => {
  assert.equal(annotationKeys('flannel.alpha.coreos.com').publicIp, 'flannel.alpha.coreos.com/public-ip')
  assert.equal(annotationKeys('flannel.alpha.coreos.com/').backendData, 'flannel.alpha.coreos.com/backend-data')
  assert.equal(annotationKeys('example.org/pods').backendData, 'example.org/pods-backend-data')
  assert.equal(annotationKeys('example.org/pods-').marker, 'example.org/pods-kube-subnet-manager')
  for (const bad of ['', 'nodots', 'a.b/c/d', 'A.b', 'a.b/-', 'a b.c', `${'a'.repeat(300)}.b`])
    assert.throws(() => annotationKeys(bad), FlannelError, bad)
})

test('the data is compact JSON in flannel’s key order', () => {
  const own = ownAnnotations('vxlan', {
    4: { publicIp: ipText('192.0.2.1'), data: { kind: 'vtep', mac, vni: 1 } },
    6: { publicIp: ipText('2001:db8::1'), data: { kind: 'vtep', mac, vni: 1 } },
  })
  assert.deepEqual(own, {
    marker: 'true',
    backendType: 'vxlan',
    backendData: '{"VNI":1,"VtepMAC":"7a:0b:0c:0d:0e:0f"}',
    publicIp: '192.0.2.1',
    backendV6Data: '{"VNI":1,"VtepMAC":"7a:0b:0c:0d:0e:0f"}',
    publicIpv6: '2001:db8::1',
  })
  assert.equal(own.backendData?.split(':"').length, 2, 'flannel finds its MAC by splitting here')
})

test('host-gw writes null; an IPv6-only node too for IPv4', () => {
  assert.equal(
    ownAnnotations('host-gw', { 4: { publicIp: ipText('192.0.2.1'), data: { kind: 'none' } } }).backendData,
    'null',
  )
  const six = ownAnnotations('vxlan', { 6: { publicIp: ipText('2001:db8::1'), data: { kind: 'vtep', mac, vni: 1 } } })
  assert.equal(six.backendData, 'null')
  assert.equal(six.publicIp, undefined)
})

test('a patch holds only what differs', () => {
  const keys = annotationKeys('flannel.alpha.coreos.com')
  const wanted = ownAnnotations('host-gw', { 4: { publicIp: ipText('192.0.2.1'), data: { kind: 'none' } } })
  assert.equal(annotationPatch(wanted, wanted, keys), undefined)
  assert.deepEqual(annotationPatch(wanted, { ...wanted, publicIp: '192.0.2.9' }, keys), {
    'flannel.alpha.coreos.com/public-ip': '192.0.2.1',
  })
})

test('only own string properties of the right name are read, and nothing long is kept', () => {
  const keys = annotationKeys('flannel.alpha.coreos.com')
  const read = readAnnotations(
    {
      'flannel.alpha.coreos.com/public-ip': '192.0.2.1',
      'flannel.alpha.coreos.com/backend-data': 'x'.repeat(10_000_000),
      other: 'y',
    },
    keys,
  )
  assert.deepEqual(read, { publicIp: '192.0.2.1', backendData: '<10000000 characters>' })
  for (const odd of [null, undefined, 7, 'text', [], { 'flannel.alpha.coreos.com/public-ip': 7 }])
    assert.deepEqual(readAnnotations(odd, keys), {})
})
