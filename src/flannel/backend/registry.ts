/** Every backend that is built, by the type in net-conf.json. */

import type { BackendConf } from '../backend-conf.ts'
import { alloc } from './alloc.ts'
import type { Backend } from './backend.ts'
import { hostGw } from './host-gw.ts'
import { ipip } from './ipip.ts'
import { udp } from './udp.ts'
import { vxlan } from './vxlan.ts'
import { cloud } from '../cloud/backend.ts'
import { extension } from '../extension/backend.ts'
import { ipsec } from '../ipsec/backend.ts'
import { wireguard } from '../wireguard/backend.ts'

export function backendOf(conf: BackendConf): Backend {
  switch (conf.type) {
    case 'vxlan':
      return vxlan(conf)
    case 'host-gw':
      return hostGw
    case 'udp':
      return udp(conf)
    case 'ipip':
      return ipip(conf)
    case 'alloc':
      return alloc
    case 'wireguard':
      return wireguard(conf)
    case 'extension':
      return extension
    case 'ipsec':
      return ipsec(conf)
    case 'gce':
    case 'ali-vpc':
    case 'aws-vpc':
    case 'tencent-vpc':
      return cloud(conf.type)
    default:
      return conf satisfies never
  }
}
