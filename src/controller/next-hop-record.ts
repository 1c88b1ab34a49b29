/**
 * Addresses of nodes that routes were made to, in a ConfigMap: so that the routes of a node are known as ours when the node is long gone
 * and the controller is another one. An address is written down before the first route to it is made.
 */

import * as v from 'valibot'
import type { ConfigMap } from 'kubernetes-types/core/v1.js'

import { formatIp, tryParseIp, type IpText } from '#ip/address.ts'
import type { KubeClient } from '#kube/client.ts'
import { KubeError } from '#kube/errors.ts'
import type { Stored } from '#kube/resource.ts'
import { configMaps } from '#kube/resources.ts'

const KEY = 'next-hops'
const TIMEOUT = 10_000
/** More nodes than any router has routes. */
const MAX = 8_192
const List = v.pipe(v.array(v.pipe(v.string(), v.maxLength(64))), v.maxLength(MAX))

export class NextHopRecord {
  readonly #client: KubeClient
  readonly #ref: { readonly namespace: string; readonly name: string }
  #known: ReadonlySet<IpText> | undefined
  #stored: Stored<ConfigMap> | undefined

  constructor(client: KubeClient, ref: { readonly namespace: string; readonly name: string }) {
    this.#client = client
    this.#ref = ref
  }

  /** What is written down; read once. @throws KubeError */
  async read(signal: AbortSignal): Promise<ReadonlySet<IpText>> {
    if (this.#known !== undefined) return this.#known
    try {
      this.#stored = await this.#client.get(configMaps, this.#ref, { signal, timeout: TIMEOUT })
    } catch (error) {
      if (!(error instanceof KubeError && error.code === 'not-found')) throw error
      this.#stored = undefined
    }
    const text: unknown = this.#stored?.data?.[KEY]
    const known = parseList(typeof text === 'string' ? text : '[]')
    this.#known = known
    return known
  }

  /** Makes it say exactly these. @throws KubeError `conflict`: another wrote it; it is read anew the next time */
  async write(addresses: ReadonlySet<IpText>, signal: AbortSignal): Promise<void> {
    const known = await this.read(signal)
    if (known.size === addresses.size && [...addresses].every((one) => known.has(one))) return
    const data = { ...this.#stored?.data, [KEY]: JSON.stringify([...addresses].toSorted().slice(0, MAX)) }
    const options = { signal, timeout: TIMEOUT }
    try {
      this.#stored =
        this.#stored === undefined
          ? await this.#client.create(configMaps, { metadata: this.#ref, data }, options)
          : await this.#client.update(configMaps, { metadata: this.#stored.metadata, data }, options)
      this.#known = addresses
    } catch (error) {
      this.#known = undefined
      throw error
    }
  }
}

/** What cannot be read names nobody: then only the nodes that are there have routes of ours. */
function parseList(text: string): ReadonlySet<IpText> {
  let raw: unknown
  try {
    raw = JSON.parse(text)
  } catch {
    return new Set()
  }
  const result = v.safeParse(List, raw)
  if (!result.success) return new Set()
  return new Set(result.output.flatMap((one) => tryParseIp(one) ?? []).map(formatIp))
}
