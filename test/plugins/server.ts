/** `server.ts tcp|udp ADDRESS PORT ANSWER`: answers, and ends with the process that started it. */

import { createSocket } from 'node:dgram'
import { flushCompileCache } from 'node:module'
import { createServer } from 'node:net'

const [, , proto, address = '', port = '', answer = ''] = process.argv
const reply = (peer: string | undefined): string => (answer === 'PEER' ? (peer ?? '').replace('::ffff:', '') : answer)
const ready = (): void => void process.stdout.write('ready')
// It will be killed; the next one shall start faster.
flushCompileCache()

if (proto === 'udp') {
  const socket = createSocket({ type: address.includes(':') ? 'udp6' : 'udp4' })
  socket.on('message', (_, from) => socket.send(reply(from.address), from.port, from.address))
  socket.bind(Number(port), address, ready)
} else {
  const server = createServer((socket) => {
    socket.on('error', () => socket.destroy())
    socket.end(reply(socket.remoteAddress))
  })
  server.listen(Number(port), address, ready)
}
// The test may die by a signal: nobody is left behind.
const parent = process.ppid
setInterval(() => process.ppid !== parent && process.exit(), 1000).unref()
