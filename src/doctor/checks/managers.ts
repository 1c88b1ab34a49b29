/** Programs that manage interfaces and think that the pod network's are theirs. */

import type { Facts } from '../facts.ts'
import { fine, wrong, type Finding } from '../finding.ts'

const CONF = '/etc/NetworkManager/conf.d/heddle.conf'
const UNMANAGED =
  'interface-name:cni*;interface-name:flannel*;interface-name:veth*;interface-name:cali*;interface-name:tunl*'

/** Its configuration must name our interfaces as unmanaged, or it takes their addresses and routes away. */
export function networkManager({ running, files }: Facts): readonly Finding[] {
  if (!running.networkManager) return [fine('network-manager', 'NetworkManager does not run')]
  for (const [path, text] of files) {
    if (!path.includes('/NetworkManager/')) continue
    const line = /^unmanaged-devices\s*=.*$/m.exec(text)?.[0]
    if (line !== undefined && /flannel|cni|cali/.test(line)) return [fine('network-manager', `${path}: ${line}`)]
  }
  const commands = [
    String.raw`printf '[keyfile]\nunmanaged-devices=${UNMANAGED}\n' > ${CONF}`,
    'systemctl reload NetworkManager',
  ]
  const evidence = ['NetworkManager runs, and no unmanaged-devices of it names flannel, cni or cali interfaces']
  return [wrong('network-manager', 'warning', { code: 'managed-by-network-manager' }, evidence, commands)]
}

/** systemd-networkd removes routes that it did not make when it restarts, unless ManageForeignRoutes is off. */
export function networkd({ running, files }: Facts): readonly Finding[] {
  if (!running.networkd) return [fine('networkd', 'systemd-networkd does not run')]
  const configs = [...files].filter(([path]) => /\/networkd\.conf(\.d\/|$)/.test(path))
  for (const [path, text] of configs) {
    const line = /^ManageForeignRoutes\s*=\s*(no|false|off|0)\s*$/im.exec(text)?.[0]
    if (line !== undefined) return [fine('networkd', `${path}: ${line}`)]
  }
  const commands = [
    'mkdir -p /etc/systemd/networkd.conf.d',
    String.raw`printf '[Network]\nManageForeignRoutes=no\nManageForeignRoutingPolicyRules=no\n' > /etc/systemd/networkd.conf.d/heddle.conf`,
    'systemctl restart systemd-networkd',
  ]
  return [
    wrong(
      'networkd',
      'warning',
      { code: 'networkd-removes-routes' },
      ['systemd-networkd runs with ManageForeignRoutes=yes'],
      commands,
    ),
  ]
}
