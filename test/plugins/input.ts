/** Plugin inputs as the shell would make them, for tests that call Plugin objects directly. */

import { parseNetConf } from '#cni/config.ts'
import type { JsonObject } from '#cni/json.ts'
import type { Attachment, GcInput, PluginInput } from '#cni/plugin.ts'
import type { Result } from '#cni/result.ts'

export interface CallOptions {
  readonly containerId?: string
  readonly netns?: string
  readonly ifname?: string
  readonly args?: Readonly<Record<string, string>>
  readonly path?: readonly string[]
  readonly prevResult?: Result
}

export function inputOf(raw: JsonObject, options: CallOptions = {}): PluginInput {
  const input = {
    containerId: options.containerId ?? 'c1',
    netns: options.netns ?? '',
    ifname: options.ifname ?? 'eth0',
    args: new Map(Object.entries(options.args ?? {})),
    path: options.path ?? [],
    config: parseNetConf({ cniVersion: '1.1.0', ...raw }),
  }
  return options.prevResult === undefined ? input : { ...input, prevResult: options.prevResult }
}

export function gcInputOf(raw: JsonObject, validAttachments: readonly Attachment[]): GcInput {
  return { ...inputOf(raw, { containerId: '', ifname: '' }), validAttachments }
}
