/**
 * One end of an SCTP connection, which Node.js has no words for: `sctp-end.ts serve PORT ANSWER` answers the first connection and ends;
 * `sctp-end.ts ask ADDRESS PORT` prints the answer. IPv4; blocking, which is why it is a process of its own.
 */

import { nativeSys } from '#sys/addon.ts'
import { AF, SOCK } from '#sys/constants.ts'
import { check } from '#sys/errno.ts'

const IPPROTO_SCTP = 132

function addressOf(ip: string, port: number): Uint8Array {
  const bytes = Buffer.alloc(16)
  bytes.writeUInt16LE(AF.INET, 0)
  bytes.writeUInt16BE(port, 2)
  bytes.set(ip.split('.').map(Number), 4)
  return bytes
}

const [, , verb, first = '', second = ''] = process.argv
const sys = nativeSys()
const socket = check(sys.socket(AF.INET, SOCK.STREAM, IPPROTO_SCTP), 'socket')
if (verb === 'serve') {
  check(sys.bind(socket, addressOf('0.0.0.0', Number(first))), 'bind')
  check(sys.listen(socket, 8), 'listen')
  process.stdout.write('ready\n')
  const connection = check(sys.accept(socket, 0), 'accept')
  check(sys.send(connection, Buffer.from(second), 0), 'send')
  sys.close(connection)
} else {
  check(sys.connect(socket, addressOf(first, Number(second))), 'connect')
  const buffer = Buffer.alloc(64)
  const length = check(sys.recv(socket, buffer, 0), 'recv')
  process.stdout.write(buffer.subarray(0, length))
}
