import assert from 'node:assert/strict'
import { test } from 'node:test'

import { chooseMac } from './mac.ts'

const random = (): Uint8Array => Uint8Array.from([0xff, 1, 2, 3, 4, 5])

test('the annotation wins, then the record, then the device, then chance', () => {
  const annotation = '{"VNI":1,"VtepMAC":"7a:00:00:00:00:01"}'
  assert.equal(chooseMac(annotation, '7a:00:00:00:00:02', '7a:00:00:00:00:03', random), '7a:00:00:00:00:01')
  assert.equal(chooseMac('null', '7a:00:00:00:00:02', '7a:00:00:00:00:03', random), '7a:00:00:00:00:02')
  assert.equal(chooseMac(undefined, undefined, '7a:00:00:00:00:03', random), '7a:00:00:00:00:03')
  assert.equal(chooseMac(undefined, undefined, undefined, random), 'fe:01:02:03:04:05', 'locally administered, unicast')
})

test('what is no station’s MAC is not taken from anywhere', () => {
  assert.equal(
    chooseMac('{"VtepMAC":"ff:ff:ff:ff:ff:ff"}', '00:00:00:00:00:00', '01:00:5e:00:00:01', random),
    'fe:01:02:03:04:05',
  )
})
