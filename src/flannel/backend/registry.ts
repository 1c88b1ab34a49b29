/** Every backend that is built, by the type in net-conf.json. */

import type { BackendConf } from '../backend-conf.ts'
import type { Backend } from './backend.ts'
import { hostGw } from './host-gw.ts'
import { vxlan } from './vxlan.ts'

export function backendOf(conf: BackendConf): Backend {
  switch (conf.type) {
    case 'vxlan':
      return vxlan(conf)
    case 'host-gw':
      return hostGw
    default:
      return conf satisfies never
  }
}
