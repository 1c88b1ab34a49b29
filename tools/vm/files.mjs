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
]

/** A test that needs something of the kernel asks test/kernel-features.ts; whoever imports that belongs here. */
const asks = (text) => /from '[./]+\/kernel-features\.ts'/.test(text)

export const isTest = (name) => /\.test\.(ts|mjs)$/.test(name)

/** The test files for the virtual machine: those whose path contains one of the filters, or without any, all that belong there. */
export function filesForMachine(filters) {
  const all = ['tools', 'src', 'test'].flatMap((folder) => filesBelow(folder, isTest))
  if (filters.length > 0) return all.filter((file) => filters.some((filter) => file.includes(filter)))
  return all.filter((file) => ALSO.includes(file) || asks(readFileSync(join(root, file), 'utf8')))
}
