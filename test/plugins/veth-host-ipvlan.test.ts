import { ipvlan } from '#plugins/ipvlan/plugin.ts'
import { needsKernel } from '../kernel-features.ts'
import { vethHostSuite } from './veth-host-suite.ts'

vethHostSuite(ipvlan, { mode: 'l2' }, needsKernel('ipvlan'))
