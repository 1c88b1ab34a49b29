/** Nova's metadata service, as far as it tells which port a card is: `network_data.json`, links[].vif_id. Source: Nova, "Metadata". */

import * as v from 'valibot'

import { tryParseMac, type MacText } from '#ip/mac.ts'

/** No VM has so many cards. */
const MAX_BYTES = 1 << 20
const TIMEOUT_MS = 5_000

const NetworkData = v.object({
  links: v.optional(
    v.array(v.object({ vif_id: v.nullish(v.string()), ethernet_mac_address: v.nullish(v.string()) })),
    [],
  ),
})
const MetaData = v.object({ uuid: v.nullish(v.string()) })

export class MetadataError extends Error {
  override readonly name = 'MetadataError'
  readonly code = 'metadata'
}

async function get<T>(
  base: string,
  file: string,
  schema: v.GenericSchema<unknown, T>,
  signal: AbortSignal,
): Promise<T> {
  const url = `${base}/openstack/latest/${file}`
  try {
    const limit = AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)])
    const response = await fetch(url, { signal: limit, redirect: 'error' })
    if (!response.ok) throw new Error(`HTTP ${response.status}`)
    let text = ''
    for await (const chunk of response.body?.pipeThrough(new TextDecoderStream()) ?? []) {
      text += chunk
      if (text.length > MAX_BYTES) throw new Error('the answer is too long')
    }
    return v.parse(schema, JSON.parse(text))
  } catch (error) {
    const cause: unknown = error instanceof Error ? (error.cause ?? error) : error
    throw new MetadataError(`${url}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause: error })
  }
}

/** The port of the card with this MAC address; undefined where the service does not know it. Throws MetadataError. */
export async function portOfMac(base: string, mac: MacText, signal: AbortSignal): Promise<string | undefined> {
  const { links } = await get(base, 'network_data.json', NetworkData, signal)
  const link = links.find(({ ethernet_mac_address: text }) => tryParseMac(text ?? '') === mac)
  const id = link?.vif_id ?? undefined
  return id !== undefined && /^[\w-]{1,64}$/.test(id) ? id : undefined
}

/** The server's id. Throws MetadataError. */
export async function serverId(base: string, signal: AbortSignal): Promise<string | undefined> {
  const { uuid } = await get(base, 'meta_data.json', MetaData, signal)
  return uuid ?? undefined
}
