/** macvlan stands for ipvlan where the kernel has none: its links do not reach their master either. */

import { macvlan } from '#plugins/macvlan/plugin.ts'
import { needsKernel } from '../kernel-features.ts'
import { vethHostSuite } from './veth-host-suite.ts'

vethHostSuite(macvlan, { mode: 'bridge' }, needsKernel('macvlan'))
