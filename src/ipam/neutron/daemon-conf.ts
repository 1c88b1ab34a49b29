/** The daemon's configuration: the object `ipam` in a file of its own, or that of the network's configuration as the runtime has it. */

import { readFileSync } from 'node:fs'

import { invalidConfig, ioFailure, messageOf } from '#cni/errors.ts'
import { isObject, parseJsonObject, type JsonObject } from '#cni/json.ts'
import { ipamConf, type NeutronConf } from './config.ts'

const TYPE = 'neutron-ipam'
/** No list of plugins comes near it. */
const MAX_BYTES = 1 << 20

/** The object `ipam` in a configuration: of the plugin of a list that has it, of a single plugin, or the object itself. */
function ipamOf(whole: JsonObject): JsonObject | undefined {
  const { plugins } = whole
  const candidates: readonly unknown[] = Array.isArray(plugins) ? plugins : [whole]
  for (const plugin of candidates) {
    if (!isObject(plugin)) continue
    const { ipam, type } = plugin
    if (isObject(ipam) && ipam['type'] === TYPE) return ipam
    if (ipam === undefined && !Array.isArray(plugins) && (type === undefined || type === TYPE)) return plugin
  }
  return undefined
}

/** Reads a file. Throws CniError 5, 6 or 7. */
export function readDaemonConf(file: string, root: string): NeutronConf {
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch (error) {
    throw ioFailure(`${file} cannot be read`, messageOf(error), { cause: error })
  }
  if (text.length > MAX_BYTES) throw invalidConfig(`${file} has more than ${MAX_BYTES} bytes`, 'it is no configuration')
  const ipam = ipamOf(parseJsonObject(text, file))
  if (ipam === undefined)
    throw invalidConfig(
      `${file} has no ipam of type "${TYPE}"`,
      `name a network's configuration that has it, or write that object alone`,
    )
  const conf = ipamConf(ipam, root, file)
  if (conf.mode === 'daemon') return conf
  throw invalidConfig(`${file}: "mode" is "direct"`, 'with it the plugin asks Neutron by itself, and needs no daemon')
}
