/** Every CNI plugin that Heddle has, by type. The one place: the shell, the build and the runtime read it. */

import type { Plugin } from '#cni/plugin.ts'
import { dhcp } from '#ipam/dhcp/plugin.ts'
import { hostLocal } from '#ipam/host-local/plugin.ts'
import { neutronIpam } from '#ipam/neutron/plugin.ts'
import { staticIpam } from '#ipam/static/plugin.ts'
import { bandwidth } from './bandwidth/plugin.ts'
import { bridge } from './bridge/plugin.ts'
import { dummy } from './dummy/plugin.ts'
import { firewall } from './firewall/plugin.ts'
import { flannel } from './flannel/plugin.ts'
import { hostDevice } from './host-device/plugin.ts'
import { hostDevicePlus } from './host-device-plus/plugin.ts'
import { ipvlan } from './ipvlan/plugin.ts'
import { loopback } from './loopback.ts'
import { macvlan } from './macvlan/plugin.ts'
import { neutronVeth } from './neutron-veth/plugin.ts'
import { portmap } from './portmap/plugin.ts'
import { ptp } from './ptp/plugin.ts'
import { sbr } from './sbr/plugin.ts'
import { tap } from './tap/plugin.ts'
import { tuning } from './tuning/plugin.ts'
import { vethHost } from './veth-host/plugin.ts'
import { vlan } from './vlan/plugin.ts'
import { vrf } from './vrf/plugin.ts'

export const registry: ReadonlyMap<string, Plugin> = new Map(
  [
    bandwidth,
    bridge,
    dhcp,
    dummy,
    firewall,
    flannel,
    hostDevice,
    hostDevicePlus,
    hostLocal,
    ipvlan,
    loopback,
    macvlan,
    neutronIpam,
    neutronVeth,
    portmap,
    ptp,
    sbr,
    staticIpam,
    tap,
    tuning,
    vethHost,
    vlan,
    vrf,
  ].map((plugin) => [plugin.type, plugin]),
)
