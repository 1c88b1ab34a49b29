/** An agent that does nothing but answer CNI calls, as a process of its own: `node agent-main.ts SOCKET`. Prints "ready". */

import { peerOf } from '#agent/cni/peer.ts'
import { startCniServer } from '#agent/cni/server.ts'
import { openHost } from '#cni/runtime/host.ts'
import { registry } from '#plugins/registry.ts'
import { nativeSys } from '#sys/addon.ts'

const socketPath = process.argv[2] ?? ''
const host = openHost({ log: (level, message) => void process.stderr.write(`${level}: ${message}\n`) })
const server = await startCniServer({ socketPath, registry, host, peerOf: peerOf(nativeSys()) })
process.stdout.write('ready\n')
process.on('SIGTERM', () => {
  void server.close().then(() => process.exit(0))
})
