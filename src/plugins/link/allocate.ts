/** Addresses for a pod's only interface, from the IPAM plugin. */

import { invalidConfig } from '#cni/errors.ts'
import type { PluginHost, PluginInput } from '#cni/plugin.ts'
import type { Result } from '#cni/result.ts'
import { PluginMissing } from '#cni/runtime/find.ts'
import type { Undo } from './undo.ts'

/** IPAM's ADD; what fails in it or after it gives the addresses back, once it has ended. A plugin that there is not has given none. */
export function allocation(input: PluginInput, host: PluginHost, undo: Undo): Promise<Result> {
  const { type } = input.config.ipam
  const result = host.delegate('ADD', type, input)
  const ended = Promise.allSettled([result])
  undo.add('addresses', async () => {
    const [outcome] = await ended
    if (outcome.status === 'rejected' && outcome.reason instanceof PluginMissing) return
    await host.delegate('DEL', type, input)
  })
  return result
}

/** The addresses of a pod with one interface. All of them belong to interface 0. Throws CniError 7 for a result without any. */
export async function allocate(plugin: string, input: PluginInput, host: PluginHost, undo: Undo): Promise<Result> {
  const { type } = input.config.ipam
  const result = await allocation(input, host, undo)
  host.failpoint(`${plugin}.allocated`)
  if (result.ips.length === 0) throw invalidConfig(`the IPAM plugin ${type} gave no address`)
  return { ...result, ips: result.ips.map((ip) => ({ ...ip, interface: 0 })) }
}
