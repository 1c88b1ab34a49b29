/** The plugin dummy: a link that leads nowhere, for addresses that only the pod itself uses. Contract: the reference plugin's configuration and result. */

import { invalidConfig } from '#cni/errors.ts'
import type { Plugin, PluginInput } from '#cni/plugin.ts'
import { createPodLink } from '../link/pod-link.ts'
import { podLinkPlugin } from '../link/pod-link-plugin.ts'

/** Throws CniError 7. */
function dummyConf({ config }: PluginInput): void {
  if (config.ipam.type !== '') return
  throw invalidConfig(
    `dummy configuration of network ${JSON.stringify(config.name)} has no "ipam"`,
    'without addresses such a link is of no use',
  )
}

export const dummy: Plugin = podLinkPlugin({
  type: 'dummy',
  kind: 'dummy',
  enableDad: false,
  conf: dummyConf,
  // It needs nothing of the host, so it is the pod's own socket that makes it.
  create: (call) => createPodLink(call, { info: { kind: 'dummy' }, mtu: 0, inContainer: true }),
  dns: (_, ipam) => ipam,
})
