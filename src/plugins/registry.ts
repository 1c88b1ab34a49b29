/** Every CNI plugin type that Heddle has: the one place that the agent, the standalone program, the lab and the build ask. */

import type { Plugin } from '#cni/plugin.ts'
import type { PluginRegistry } from '#cni/runtime/find.ts'
import { hostLocal } from '#ipam/host-local/plugin.ts'
import { staticIpam } from '#ipam/static/plugin.ts'
import { flannel } from './flannel/plugin.ts'

const plugins: readonly Plugin[] = [flannel, hostLocal, staticIpam]

export const registry: PluginRegistry = new Map(plugins.map((plugin) => [plugin.type, plugin]))
