/** What runtimes put into `runtimeConfig`. Source: CNI CONVENTIONS.md, "Dynamic plugin specific fields"; containerd's go-cni `types.go`. */

import { isObject, type Json, type JsonObject } from './json.ts'

/** Keys inside each capability whose payload is made of objects. */
const conventions: Readonly<Record<string, readonly string[]>> = {
  portMappings: ['hostPort', 'containerPort', 'protocol', 'hostIP'],
  ipRanges: ['subnet', 'rangeStart', 'rangeEnd', 'gateway'],
  bandwidth: ['ingressRate', 'ingressBurst', 'egressRate', 'egressBurst', 'unshapedSubnets', 'shapedSubnets'],
  dns: ['servers', 'searches', 'options'],
}

/**
 * `runtimeConfig` with its conventional keys spelt as CONVENTIONS.md spells them. containerd writes `HostPort` and `ContainerPort`, which
 * plugins in Go never notice, because Go reads keys without regard to case.
 */
export function canonicalRuntimeConfig(runtimeConfig: JsonObject): JsonObject {
  const entries = Object.entries(runtimeConfig).map(([capability, payload]) => {
    const keys = Object.hasOwn(conventions, capability) ? conventions[capability] : undefined
    return [capability, keys === undefined || payload === undefined ? payload : respell(payload, keys)] as const
  })
  return Object.fromEntries(entries)
}

function respell(value: Json, keys: readonly string[]): Json {
  if (Array.isArray(value)) return value.map((item: Json) => respell(item, keys))
  if (!isObject(value)) return value
  const entries = Object.entries(value).map(([key, item]) => {
    const wanted = keys.find((candidate) => candidate.toLowerCase() === key.toLowerCase())
    // The right spelling wins where both are there, as in Go.
    return [wanted === undefined || Object.hasOwn(value, wanted) ? key : wanted, item] as const
  })
  return Object.fromEntries(entries)
}
