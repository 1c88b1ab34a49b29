import { readFileSync } from 'node:fs'
import { join } from 'node:path'

import { filesBelow } from '../files.mjs'
import { root } from '../paths.mjs'

/** Tests that need no rarer feature, and prove that the data path is the same under Debian's older kernel. */
const ALSO = [
  'test/state/reconciler.test.ts',
  'test/agent/vxlan.test.ts',
  'test/sys/tun.test.ts',
  // Needs the machine's network card.
  'test/plugins/host-device-physical.test.ts',
  'test/plugins/host-device-plus-physical.test.ts',
]

/**
 * Whole agents, labs and hundreds of cases: minutes each where every instruction is emulated, which together are more than CI has. Asked for by `--all`,
 * or by name; what npm test skips of them is no failure of CI, and told.
 */
export const SLOW = [
  'test/agent/wireguard.test.ts',
  'test/conformance/kernel.test.ts',
  'test/ipsec/tunnel.test.ts',
  'test/lab/tunnels.test.ts',
  // What it stands for runs there: veth-host-ipvlan.test.ts.
  'test/plugins/veth-host-macvlan.test.ts',
  'test/survive/survive.test.ts',
]

/** A released flanneld, which npm run test:interop builds, and a kube-apiserver: no package of Debian has them. And a build that downloads a whole Debian. Only asked for by name. */
export const OUTSIDE = [
  'test/deploy/container.test.ts',
  'test/interop/flannel.test.ts',
  'test/interop/flannel-etcd.test.ts',
  'test/kube/conformance.test.ts',
]

/** A test that needs something of the kernel asks test/kernel-features.ts; whoever imports that belongs here. */
const asks = (text) => /from '[./]+\/kernel-features\.ts'/.test(text)

export const isTest = (name) => /\.test\.(ts|mjs)$/.test(name)

/** The test files for the virtual machine: those whose path contains one of the filters, or without any, those that belong there. */
export function filesForMachine(filters, { slow = false } = {}) {
  const all = ['tools', 'src', 'test'].flatMap((folder) => filesBelow(folder, isTest))
  if (filters.length > 0) return all.filter((file) => filters.some((filter) => file.includes(filter)))
  const belonging = all.filter(
    (file) => !OUTSIDE.includes(file) && (ALSO.includes(file) || asks(readFileSync(join(root, file), 'utf8'))),
  )
  return slow ? belonging : belonging.filter((file) => !SLOW.includes(file))
}
