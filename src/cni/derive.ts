/** The configuration that one plugin of a list gets on its stdin. Source: CNI SPEC.md §3, "Deriving request configuration from plugin configuration". */

import type { JsonObject } from './json.ts'
import type { Attachment } from './plugin.ts'
import { encodeResult } from './result/encode.ts'
import type { Result } from './result.ts'

export interface Derivation {
  /** The list's name and version, which every plugin of it is run with. */
  readonly name: string
  readonly cniVersion: string
  readonly prevResult?: Result | undefined
  /** What the runtime offers; only what the plugin declares in `capabilities` reaches it. */
  readonly capabilityArgs?: JsonObject | undefined
  /** For GC; absent means that nothing is valid, as when libcni is called without arguments. */
  readonly validAttachments?: readonly Attachment[] | undefined
}

export const validAttachmentsKey = 'cni.dev/valid-attachments'
/** The key's name in the first text of specification 1.1.0; written too, as libcni does. */
export const oldAttachmentsKey = 'cni.dev/attachments'

/** The plugin's object with what the runtime injects. `capabilities` stays in, as libcni leaves it. */
export function deriveConfig(plugin: JsonObject, from: Derivation): JsonObject {
  const runtimeConfig = offered(plugin['capabilities'], from.capabilityArgs)
  const valid = from.validAttachments?.map(({ containerId, ifname }) => ({ containerID: containerId, ifname }))
  return {
    ...plugin,
    name: from.name,
    cniVersion: from.cniVersion,
    ...(from.prevResult === undefined ? {} : { prevResult: encodeResult(from.prevResult, from.cniVersion) }),
    ...(runtimeConfig === undefined ? {} : { runtimeConfig }),
    ...(valid === undefined ? {} : { [validAttachmentsKey]: valid, [oldAttachmentsKey]: valid }),
  }
}

function offered(capabilities: unknown, args: JsonObject | undefined): JsonObject | undefined {
  if (typeof capabilities !== 'object' || capabilities === null || args === undefined) return undefined
  const wanted = Object.entries(capabilities).filter(([key, yes]) => yes === true && Object.hasOwn(args, key))
  if (wanted.length === 0) return undefined
  return Object.fromEntries(wanted.map(([key]) => [key, args[key]]))
}
