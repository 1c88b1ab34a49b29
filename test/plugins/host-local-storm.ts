/** One of several processes that allocate from one pool at the same time: `host-local-storm.ts ROOT NAME`; sends what it holds at the end. */

import { hostLocal } from '#ipam/host-local/plugin.ts'
import { inputOf } from './input.ts'

const [, , root = '', name = ''] = process.argv
const host = {
  root,
  get netlink(): never {
    throw new Error('not here')
  },
  delegate: async (): Promise<never> => {
    throw new Error('not here')
  },
  failpoint: () => {},
  log: () => {},
}
const conf = { name: 'net1', type: 'bridge', ipam: { type: 'host-local', ranges: [[{ subnet: '10.1.0.0/24' }]] } }
const held: string[] = []
for (let i = 0; i < 30; i++) {
  const input = inputOf(conf, { containerId: `${name}-${i}` })
  const first = await hostLocal.add(input, host)
  if (i % 2 === 0) {
    await hostLocal.del(input, host)
    const again = await hostLocal.add(input, host)
    held.push(again.ips[0]?.address ?? '')
  } else held.push(first.ips[0]?.address ?? '')
}
process.send?.(held.map((address) => address.split('/')[0]))
process.disconnect?.()
