/** What other machines say: Nodes and their annotations, the API server, its clients, DHCP servers. */

import { test } from 'node:test'

import fc from 'fast-check'

import { CniError } from '#cni/errors.ts'
import { annotationKeys, DEFAULT_PREFIX, readAnnotations } from '#flannel/annotations.ts'
import { parseVtepData } from '#flannel/backend-data.ts'
import { backendOf } from '#flannel/backend/registry.ts'
import { FlannelError } from '#flannel/errors.ts'
import { readLease } from '#flannel/lease.ts'
import { parseNetConf } from '#flannel/net-conf.ts'
import { nodeView } from '#flannel/node-view.ts'
import {
  LineReader,
  parseEvent,
  parseRequest as parseRelayRequest,
  RelayProtocolError,
} from '#flannel/relay/protocol.ts'
import { GobDecoder, GobError, gobMessageLength } from '#ipam/dhcp/wire/gob.ts'
import { readAnswer, readCall, readResult } from '#ipam/dhcp/wire/rpc.ts'
import { DhcpWireError } from '#ipam/dhcp/wire/error.ts'
import { ANY4, decodeMessage4, encodeMessage4 } from '#ipam/dhcp/wire/message4.ts'
import { addresses6Of, decodeMessage6 } from '#ipam/dhcp/wire/message6.ts'
import {
  addressesOf,
  hostAddressOf,
  maskLengthOf,
  routerOf,
  routesOf,
  searchListOf,
  textOf,
} from '#ipam/dhcp/wire/option4.ts'
import { decodePacket4 } from '#ipam/dhcp/wire/packet4.ts'
import { IpError, ipText, tryParseIp } from '#ip/address.ts'
import { parseMac, tryParseMac } from '#ip/mac.ts'
import { tryParseCidr, tryParseIpNet } from '#ip/prefix.ts'
import { parseJson } from '#kube/body.ts'
import { KubeError } from '#kube/errors.ts'
import { isObject } from '#kube/json.ts'
import { LineSplitter } from '#kube/lines.ts'
import { isStored } from '#kube/resource.ts'
import { BUILTIN } from '#kube/server/builtin.ts'
import { jsonPath } from '#kube/server/json-path.ts'
import { parseMetadata } from '#kube/server/object.ts'
import { JsonPatchError, jsonPatch } from '#kube/server/patch/json.ts'
import { mergePatch } from '#kube/server/patch/merge.ts'
import { parseObject } from '#kube/server/prepare.ts'
import { decodeProtobuf, PROTOBUF } from '#kube/server/protobuf.ts'
import { listQuery, parseBody, parseRequest } from '#kube/server/request.ts'
import { fieldSelector, labelSelector, pinnedName } from '#kube/server/selectors.ts'
import { ApiError } from '#kube/server/status.ts'
import { bytes, damagedText, jsonText, mutated, survives, text } from './hostile.ts'

const keys = annotationKeys(DEFAULT_PREFIX)

const node = {
  apiVersion: 'v1',
  kind: 'Node',
  metadata: {
    name: 'worker-1',
    uid: 'x',
    resourceVersion: '7',
    annotations: {
      [keys.marker]: 'true',
      [keys.backendType]: 'vxlan',
      [keys.backendData]: '{"VNI":1,"VtepMAC":"0a:00:00:00:00:01"}',
      [keys.publicIp]: '192.168.0.2',
    },
  },
  spec: { podCIDR: '10.244.1.0/24', podCIDRs: ['10.244.1.0/24', 'fd00:1::/64'] },
  status: { conditions: [{ type: 'NetworkUnavailable', status: 'True' }] },
}

const netConfs = ['vxlan', 'host-gw', 'udp', 'ipip', 'alloc', 'wireguard', 'extension'].map((Type) => ({
  Network: '10.244.0.0/16',
  IPv6Network: 'fd00:244::/48',
  EnableIPv6: true,
  EnableNFTables: true,
  SubnetLen: 24,
  Backend: { Type, VNI: 1, Port: 8472, DirectRouting: true, PSK: 'x', Mode: 'auto', SubnetAddCommand: 'true' },
}))

test('addresses, prefixes and MACs', () => {
  const near = damagedText(['10.244.0.0/16', 'fd00::1/64', '::ffff:10.0.0.1', '0a:00:00:00:00:01'])
  fc.assert(
    fc.property(fc.oneof(near, text), (it) => {
      for (const parse of [tryParseIp, tryParseIpNet, tryParseCidr, tryParseMac]) survives(() => parse(it))
      survives(() => parseMac(it), IpError)
    }),
    { numRuns: 500 },
  )
})

test('net-conf.json', () => {
  fc.assert(
    fc.property(jsonText(...netConfs), (it) => survives(() => parseNetConf(it), FlannelError)),
    { numRuns: 500 },
  )
})

test('Nodes, their annotations and leases of every backend', () => {
  const backends = netConfs.flatMap((conf) => {
    try {
      return [backendOf(parseNetConf(JSON.stringify(conf)).backend)]
    } catch {
      // Options of the others that this one refuses.
      return []
    }
  })
  if (backends.length < 3) throw new Error('too few backends to try')
  fc.assert(
    fc.property(mutated([node]), (it) =>
      survives(() => {
        const view = nodeView(it, keys)
        if (view !== undefined) for (const backend of backends) readLease(view, backend, [4, 6])
      }),
    ),
    { numRuns: 500 },
  )
  fc.assert(fc.property(mutated([node.metadata.annotations]), (it) => survives(() => readAnnotations(it, keys))))
  const data = jsonText({ VNI: 1, VtepMAC: '0a:00:00:00:00:01' }, { PublicKey: 'x'.repeat(43) + '=' })
  fc.assert(
    fc.property(data, (it) => {
      survives(() => parseVtepData(it, 'data'), FlannelError)
      for (const backend of backends) survives(() => backend.readData(it, 'data'), FlannelError)
    }),
  )
})

test('lines between the agent and its relay', () => {
  const samples = [{ do: 'peers', peers: [{ subnet: '10.244.1.0/24', address: '192.168.0.2' }] }, { is: 'ready' }]
  fc.assert(
    fc.property(jsonText(...samples), (it) => {
      survives(() => parseRelayRequest(it), RelayProtocolError)
      survives(() => parseEvent(it), RelayProtocolError)
      survives(() => new LineReader().take(it), RelayProtocolError)
    }),
  )
})

test('what an API server answers', () => {
  const event = { type: 'ADDED', object: node }
  fc.assert(
    fc.property(jsonText(node, event), (it) => {
      survives(() => isStored(parseJson(it)), KubeError, SyntaxError)
    }),
  )
  const chunks = fc.array(bytes([Buffer.from(`${JSON.stringify(event)}\n`)]), { maxLength: 6 })
  fc.assert(
    fc.property(chunks, (it) =>
      survives(() => {
        const splitter = new LineSplitter(1000)
        for (const chunk of it) splitter.push(Buffer.from(chunk))
      }, KubeError),
    ),
  )
})

test('what a client of the API server asks', () => {
  const url =
    '/apis/apps/v1/namespaces/default/deployments/x/status?limit=5&labelSelector=a%3Db&watch=true&timeoutSeconds=9&continue=e30'
  fc.assert(
    fc.property(fc.oneof(damagedText([url]), text), (it) =>
      survives(() => listQuery(parseRequest('GET', it)), ApiError),
    ),
    { numRuns: 500 },
  )
  fc.assert(
    fc.property(fc.oneof(damagedText(['a=b,c!=d,e in (f,g),!h', 'metadata.name=x,spec.nodeName!=y']), text), (it) => {
      survives(() => labelSelector(it), ApiError)
      survives(() => fieldSelector(it, { 'spec.nodeName': ['spec', 'nodeName'] }), ApiError)
      survives(() => pinnedName(it))
      survives(() => jsonPath(it))
    }),
  )
  fc.assert(
    fc.property(jsonText(node), fc.constantFrom('application/json', 'application/yaml', 'text/x', ''), (it, media) =>
      survives(() => {
        // The YAML parser takes seconds for thousands of levels; only the lab's own API server uses it.
        const body = parseBody(Buffer.from(media === 'application/yaml' ? it.slice(0, 2_000) : it), media)
        for (const type of BUILTIN) survives(() => parseObject(type, body), ApiError)
        parseMetadata('Node', isObject(body) ? body['metadata'] : body)
      }, ApiError),
    ),
  )
  const packed = Buffer.concat([Buffer.from('k8s\0'), Buffer.from([10, 6, 10, 2, 118, 49, 18, 0, 18, 4, 10, 2, 8, 1])])
  fc.assert(
    fc.property(bytes([packed]), (it) => {
      survives(() => decodeProtobuf(Buffer.from(it)), ApiError)
      survives(() => parseBody(Buffer.from(it), PROTOBUF), ApiError)
    }),
    { numRuns: 500 },
  )
  const patches = [
    [{ op: 'add', path: '/metadata/annotations/a~1b', value: 1 }],
    [{ op: 'move', from: '/spec', path: '/x' }],
  ]
  fc.assert(
    fc.property(mutated(patches), mutated([node]), (patch, target) => {
      const [change, object] = [JSON.parse(JSON.stringify(patch ?? null)), JSON.parse(JSON.stringify(target ?? null))]
      survives(() => jsonPatch(object, change), JsonPatchError)
      survives(() => mergePatch(object, change))
    }),
  )
})

test('DHCP packets, and calls of the reference’s daemon', () => {
  const offer = encodeMessage4({
    op: 2,
    type: 'offer',
    xid: 7,
    secs: 0,
    broadcast: false,
    ciaddr: ANY4,
    yiaddr: ipText('10.0.0.9'),
    giaddr: ANY4,
    mac: parseMac('02:00:00:00:00:01'),
    options: new Map([[1, Uint8Array.from([255, 255, 255, 0])]]),
  })
  const six = Buffer.from('07000007000100040001aabb0003000c0000000100000e1000001518', 'hex')
  fc.assert(
    fc.property(bytes([offer, six]), (it) => {
      survives(() => decodePacket4(it), DhcpWireError)
      survives(() => decodeMessage4(it), DhcpWireError)
      survives(() => decodeMessage6(it), DhcpWireError)
      for (const read of [addresses6Of, addressesOf, hostAddressOf, maskLengthOf, searchListOf, textOf])
        survives(() => read(it), DhcpWireError)
      const options = new Map([3, 33, 121, 249].map((code) => [code, it] as const))
      survives(() => [routesOf(options), routerOf(options)], DhcpWireError)
    }),
    { numRuns: 500 },
  )
  fc.assert(
    fc.property(fc.array(bytes([]), { maxLength: 4 }), (messages) => {
      const decoder = new GobDecoder()
      survives(() => {
        for (const message of messages) {
          gobMessageLength(message)
          const value = decoder.decode(message)
          if (value === undefined) continue
          for (const read of [readCall, readAnswer, readResult]) survives(() => read(value), GobError, CniError)
        }
      }, GobError)
    }),
    { numRuns: 500 },
  )
})
