/** `kill-call.ts`, with one JSON argument: runs ADD or DEL of the chain in a host's namespace and dies by SIGKILL at the nth fail point. */

import type { ChainCall } from './chain.ts'
import { addChain, delChain } from './chain.ts'
import { pluginHostAt } from './network-host.ts'

interface Order extends ChainCall {
  readonly verb: 'ADD' | 'DEL'
  readonly host: string
  readonly root: string
  readonly dieAt: number
}

const order: Order = JSON.parse(process.argv[2] ?? '{}')
let seen = 0
const host = pluginHostAt(order.host, order.root, () => {
  if (seen++ === order.dieAt) process.kill(process.pid, 'SIGKILL')
})
if (order.verb === 'ADD') await addChain(host, order)
else await delChain(host, order)
