/**
 * The program of flannel's udp backend: carries packets between a TUN device and UDP, as the agent tells it over a unix socket. Started by the
 * agent, not by people: `node relay.mjs --socket PATH [--no-device-offload] [--no-socket-offload] [--linger-ms N]`.
 */

import { parseArgs } from 'node:util'

import { Relay } from '#flannel/relay/relay.ts'
import { nativeSys } from '#sys/addon.ts'
import { check } from '#sys/errno.ts'
import { version } from './version.ts'

const { values } = parseArgs({
  options: {
    socket: { type: 'string' },
    'no-device-offload': { type: 'boolean', default: false },
    'no-socket-offload': { type: 'boolean', default: false },
    'linger-ms': { type: 'string' },
  },
})

/** CAP_NET_BIND_SERVICE for a port below 1024, CAP_NET_ADMIN for the device and large buffers. Nothing else, and nothing more ever. */
const CAPABILITIES = (1 << 10) | (1 << 12)
const PR_SET_NO_NEW_PRIVS = 38

function dropPrivileges(): void {
  const sys = nativeSys()
  check(sys.prctl(PR_SET_NO_NEW_PRIVS, 1), 'prctl PR_SET_NO_NEW_PRIVS')
  check(sys.capSet(CAPABILITIES, 0), 'capset')
}

// The agent that reads them may be gone.
process.stderr.on('error', () => undefined)

if (values.socket === undefined) {
  process.stderr.write('heddle relay: --socket is missing; the agent starts this program by itself\n')
  process.exit(2)
}
try {
  dropPrivileges()
  const lingerMs = Number(values['linger-ms'])
  const relay = await Relay.open({
    socket: values.socket,
    version,
    offload: { device: !values['no-device-offload'], socket: !values['no-socket-offload'] },
    ...(Number.isFinite(lingerMs) ? { lingerMs } : {}),
  })
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => relay[Symbol.dispose]())
  await relay.done
} catch (error) {
  process.stderr.write(`heddle relay: ${error instanceof Error ? error.message : String(error)}\n`)
  process.exitCode = 1
}
