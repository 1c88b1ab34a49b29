/** The plugin's end of the daemon's socket: one call, one answer. */

import { connect } from 'node:net'

import { ioFailure, messageOf, tryAgain } from '#cni/errors.ts'
import { hasCode } from '#sys/errno.ts'
import { lineOf, MAX_LINE, readAnswer, type Call, type Grant } from './wire.ts'

/** Nobody listens there. */
export class NoDaemonError extends Error {
  override readonly name = 'NoDaemonError'
  readonly code = 'no-daemon'
}

/** Throws NoDaemonError, the daemon's CniError, or CniError 11 when no answer comes within `ms`. */
export async function callDaemon(path: string, call: Call, ms: number): Promise<readonly Grant[]> {
  const { promise, resolve, reject } = Promise.withResolvers<string>()
  const socket = connect(path)
  const timer = setTimeout(
    () => reject(tryAgain(`the daemon at ${path} did not answer within ${ms / 1000} s`, 'the runtime will try again')),
    ms,
  )
  let text = ''
  socket.setEncoding('utf8')
  socket.once('connect', () => socket.write(lineOf(call)))
  socket.on('data', (chunk: string) => {
    text += chunk
    if (text.length > MAX_LINE) reject(ioFailure(`the daemon at ${path} says too much`))
    if (text.endsWith('\n')) resolve(text)
  })
  socket.once('error', (error) =>
    reject(
      hasCode(error, 'ENOENT', 'ECONNREFUSED', 'ENOTDIR', 'ENOTSOCK')
        ? new NoDaemonError(`no daemon listens on ${path}`)
        : tryAgain(`the daemon at ${path} went away`, messageOf(error)),
    ),
  )
  socket.once('close', () =>
    reject(tryAgain(`the daemon at ${path} closed the connection`, 'the runtime will try again')),
  )
  try {
    return readAnswer(await promise)
  } finally {
    clearTimeout(timer)
    socket.destroy()
  }
}
