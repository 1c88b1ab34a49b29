/** `client.ts tcp|udp ADDRESS PORT [FROM] [FROM-PORT]`: prints the answer; exit code 1 when there is none in a second. */

import { createSocket } from 'node:dgram'
import { connect } from 'node:net'

const [, , proto, address = '', port = '', from = '', fromPort = '0'] = process.argv
setTimeout(() => process.exit(1), 1000)

if (proto === 'udp') {
  const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4')
  socket.on('message', (message) => process.stdout.write(message, () => process.exit(0)))
  socket.bind(Number(fromPort), () => socket.send('?', Number(port), address))
} else {
  const socket = connect({ host: address, port: Number(port), ...(from === '' ? {} : { localAddress: from }) })
  socket.on('error', () => process.exit(1))
  socket.on('data', (chunk) => process.stdout.write(chunk, () => process.exit(0)))
}
