import { Buffer } from 'node:buffer'
import { isObject } from '../json.ts'
import type { Json, JsonObject } from '../json.ts'
import { badRequest, unsupportedMediaType } from './status.ts'

/** The media type in which newer kubectls send what `kubectl create KIND` makes. */
export const PROTOBUF = 'application/vnd.kubernetes.protobuf'

type Kind =
  | 'string'
  | 'bytes'
  | 'int'
  | 'bool'
  | 'time'
  | 'microTime'
  | 'intOrString'
  | 'textMap'
  | 'bytesMap'
  | Message

interface Message {
  readonly fields: { readonly [number: number]: readonly [name: string, kind: Kind, repeated?: 'list'] }
}

const message = (fields: Message['fields']): Message => ({ fields })

const OwnerReference = message({
  1: ['kind', 'string'],
  3: ['name', 'string'],
  4: ['uid', 'string'],
  5: ['apiVersion', 'string'],
  6: ['controller', 'bool'],
  7: ['blockOwnerDeletion', 'bool'],
})

const ObjectMeta = message({
  1: ['name', 'string'],
  2: ['generateName', 'string'],
  3: ['namespace', 'string'],
  5: ['uid', 'string'],
  6: ['resourceVersion', 'string'],
  7: ['generation', 'int'],
  8: ['creationTimestamp', 'time'],
  9: ['deletionTimestamp', 'time'],
  11: ['labels', 'textMap'],
  12: ['annotations', 'textMap'],
  13: ['ownerReferences', OwnerReference, 'list'],
  14: ['finalizers', 'string', 'list'],
})

const ObjectReference = message({
  1: ['kind', 'string'],
  2: ['namespace', 'string'],
  3: ['name', 'string'],
  4: ['uid', 'string'],
  5: ['apiVersion', 'string'],
  6: ['resourceVersion', 'string'],
  7: ['fieldPath', 'string'],
})

const ServicePort = message({
  1: ['name', 'string'],
  2: ['protocol', 'string'],
  3: ['port', 'int'],
  4: ['targetPort', 'intOrString'],
  5: ['nodePort', 'int'],
  6: ['appProtocol', 'string'],
})

const ServiceSpec = message({
  1: ['ports', ServicePort, 'list'],
  2: ['selector', 'textMap'],
  3: ['clusterIP', 'string'],
  4: ['type', 'string'],
  5: ['externalIPs', 'string', 'list'],
  7: ['sessionAffinity', 'string'],
  8: ['loadBalancerIP', 'string'],
  9: ['loadBalancerSourceRanges', 'string', 'list'],
  10: ['externalName', 'string'],
  11: ['externalTrafficPolicy', 'string'],
  13: ['publishNotReadyAddresses', 'bool'],
  17: ['ipFamilyPolicy', 'string'],
  18: ['clusterIPs', 'string', 'list'],
  19: ['ipFamilies', 'string', 'list'],
  21: ['loadBalancerClass', 'string'],
  22: ['internalTrafficPolicy', 'string'],
})

/** Field numbers of k8s.io/api's generated.proto, for the kinds that clients of this server make. */
const KINDS: { readonly [kind: string]: Message } = {
  Namespace: message({ 1: ['metadata', ObjectMeta], 2: ['spec', message({ 1: ['finalizers', 'string', 'list'] })] }),
  ConfigMap: message({
    1: ['metadata', ObjectMeta],
    2: ['data', 'textMap'],
    3: ['binaryData', 'bytesMap'],
    4: ['immutable', 'bool'],
  }),
  Secret: message({
    1: ['metadata', ObjectMeta],
    2: ['data', 'bytesMap'],
    3: ['type', 'string'],
    4: ['stringData', 'textMap'],
    5: ['immutable', 'bool'],
  }),
  ServiceAccount: message({
    1: ['metadata', ObjectMeta],
    2: ['secrets', ObjectReference, 'list'],
    3: ['imagePullSecrets', message({ 1: ['name', 'string'] }), 'list'],
    4: ['automountServiceAccountToken', 'bool'],
  }),
  Service: message({ 1: ['metadata', ObjectMeta], 2: ['spec', ServiceSpec] }),
  Lease: message({
    1: ['metadata', ObjectMeta],
    2: [
      'spec',
      message({
        1: ['holderIdentity', 'string'],
        2: ['leaseDurationSeconds', 'int'],
        3: ['acquireTime', 'microTime'],
        4: ['renewTime', 'microTime'],
        5: ['leaseTransitions', 'int'],
      }),
    ],
  }),
  Event: message({
    1: ['metadata', ObjectMeta],
    2: ['involvedObject', ObjectReference],
    3: ['reason', 'string'],
    4: ['message', 'string'],
    5: ['source', message({ 1: ['component', 'string'], 2: ['host', 'string'] })],
    6: ['firstTimestamp', 'time'],
    7: ['lastTimestamp', 'time'],
    8: ['count', 'int'],
    9: ['type', 'string'],
    10: ['eventTime', 'microTime'],
    12: ['action', 'string'],
    14: ['reportingComponent', 'string'],
    15: ['reportingInstance', 'string'],
  }),
  DeleteOptions: message({
    1: ['gracePeriodSeconds', 'int'],
    2: ['preconditions', message({ 1: ['uid', 'string'], 2: ['resourceVersion', 'string'] })],
    4: ['propagationPolicy', 'string'],
    5: ['dryRun', 'string', 'list'],
  }),
}

interface Field {
  readonly number: number
  readonly value: bigint | Buffer
}

const malformed = (): Error => badRequest('the protobuf body is malformed')

/** The fields of a message on the wire: varints as numbers, everything with a length as bytes. */
function* fieldsOf(bytes: Buffer): Generator<Field> {
  let at = 0
  const varint = (): bigint => {
    let value = 0n
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = bytes[at]
      if (byte === undefined) throw malformed()
      at += 1
      value |= BigInt(byte & 0x7f) << shift
      if (byte < 0x80) return BigInt.asIntN(64, value)
    }
    throw malformed()
  }
  const take = (length: number): Buffer => {
    if (length < 0 || at + length > bytes.length) throw malformed()
    at += length
    return bytes.subarray(at - length, at)
  }
  while (at < bytes.length) {
    const tag = Number(varint())
    const number = tag >>> 3
    switch (tag & 7) {
      case 0:
        yield { number, value: varint() }
        break
      case 1:
        yield { number, value: take(8) }
        break
      case 2:
        yield { number, value: take(Number(varint())) }
        break
      case 5:
        yield { number, value: take(4) }
        break
      default:
        throw malformed()
    }
  }
}

const bytesOf = (value: bigint | Buffer): Buffer => {
  if (typeof value === 'bigint') throw malformed()
  return value
}

function timeOf(bytes: Buffer, micro: boolean): Json {
  let [seconds, nanos] = [0, 0]
  for (const { number, value } of fieldsOf(bytes)) {
    if (number === 1) seconds = Number(value)
    if (number === 2) nanos = Number(value)
  }
  if (seconds === 0 && nanos === 0) return null
  if (!Number.isSafeInteger(seconds) || Math.abs(seconds) > 253_402_300_799) throw malformed()
  const text = new Date(seconds * 1000).toISOString().slice(0, 19)
  return micro ? `${text}.${String(Math.trunc(nanos / 1000)).padStart(6, '0')}Z` : `${text}Z`
}

function intOrString(bytes: Buffer): Json {
  const found = new Map([...fieldsOf(bytes)].map(({ number, value }) => [number, value]))
  const text = found.get(3)
  return found.get(1) === 1n && text instanceof Buffer ? text.toString() : Number(found.get(2) ?? 0n)
}

function valueOf(value: bigint | Buffer, kind: Kind): Json {
  switch (kind) {
    case 'string':
      return bytesOf(value).toString('utf8')
    case 'bytes':
      return bytesOf(value).toString('base64')
    case 'int':
      return Number(value)
    case 'bool':
      return value === 1n
    case 'time':
    case 'microTime':
      return timeOf(bytesOf(value), kind === 'microTime')
    case 'intOrString':
      return intOrString(bytesOf(value))
    case 'textMap':
    case 'bytesMap': {
      const entry = new Map([...fieldsOf(bytesOf(value))].map((field) => [field.number, field.value]))
      const key = bytesOf(entry.get(1) ?? Buffer.alloc(0)).toString('utf8')
      return { [key]: valueOf(entry.get(2) ?? Buffer.alloc(0), kind === 'textMap' ? 'string' : 'bytes') }
    }
    default:
      return decode(bytesOf(value), kind)
  }
}

function decode(bytes: Buffer, type: Message): JsonObject {
  const lists = new Map<string, Json[]>()
  const out = new Map<string, Json>()
  for (const { number, value } of fieldsOf(bytes)) {
    const field = type.fields[number]
    if (field === undefined) continue
    const [name, kind, repeated] = field
    const decoded = valueOf(value, kind)
    if (repeated === 'list') {
      const list = lists.get(name) ?? []
      list.push(decoded)
      lists.set(name, list)
      out.set(name, list)
    } else if (kind === 'textMap' || kind === 'bytesMap') {
      const before = out.get(name)
      out.set(name, { ...objectOf(before), ...objectOf(decoded) })
      // Generated Go code writes empty strings and zeros that its JSON leaves out.
    } else if (decoded !== '' && decoded !== null && decoded !== 0) out.set(name, decoded)
  }
  return Object.fromEntries(out)
}

const objectOf = (value: Json | undefined): JsonObject => (isObject(value) ? value : {})

/**
 * Decodes a body in Kubernetes' protobuf envelope (`k8s\0`, then `runtime.Unknown`).
 * @throws ApiError 400 where it is malformed, 415 for kinds that are not in the tables here.
 */
export function decodeProtobuf(body: Buffer): JsonObject {
  if (body.subarray(0, 4).toString('latin1') !== 'k8s\0') throw malformed()
  let [apiVersion, kind, raw] = ['', '', Buffer.alloc(0)]
  for (const { number, value } of fieldsOf(body.subarray(4))) {
    if (number === 2) raw = Buffer.from(bytesOf(value))
    if (number !== 1) continue
    for (const meta of fieldsOf(bytesOf(value))) {
      if (meta.number === 1) apiVersion = bytesOf(meta.value).toString()
      if (meta.number === 2) kind = bytesOf(meta.value).toString()
    }
  }
  const type = Object.hasOwn(KINDS, kind) ? KINDS[kind] : undefined
  if (type === undefined)
    throw unsupportedMediaType(`${PROTOBUF} of kind ${kind}`, ['application/json', 'application/yaml'])
  return { apiVersion, kind, ...decode(raw, type) }
}
