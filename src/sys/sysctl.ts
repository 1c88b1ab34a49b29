/** Kernel settings under /proc/sys, in the namespace of the calling thread (use `inNetns` for another). */

import { constants, readFileSync } from 'node:fs'
import { nativeSys } from './addon.ts'
import { check } from './errno.ts'

/** A setting cannot be read or written. */
export class SysctlError extends Error {
  override readonly name = 'SysctlError'
  readonly code: 'bad-key' | 'missing' | 'refused'
  readonly key: string

  constructor(code: SysctlError['code'], key: string, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
    this.key = key
  }
}

/**
 * The key with slashes, below /proc/sys. Both notations of sysctl(8) are taken: with slashes, where dots belong to names
 * (`net/ipv4/conf/eth0.100/forwarding`), and with dots, where a slash stands for a dot in a name
 * (`net.ipv4.conf.eth0/100.forwarding`). What leads out of /proc/sys is refused.
 */
export function sysctlKey(key: string): string {
  const first = /[./]/.exec(key)?.[0]
  const slashed = first === '.' ? key.replace(/[./]/g, (c) => (c === '.' ? '/' : '.')) : key
  const parts = slashed.split('/')
  // eslint-disable-next-line no-control-regex -- a NUL would cut the path
  if (parts.some((part) => part === '' || part === '.' || part === '..' || /\0/.test(part))) {
    throw new SysctlError('bad-key', key, `${JSON.stringify(key)} is not a sysctl such as net/ipv4/ip_forward`)
  }
  return slashed
}

/** Like `sysctl -n KEY`. Throws `SysctlError`. */
export function readSysctl(key: string): string {
  const path = sysctlKey(key)
  try {
    return readFileSync(`/proc/sys/${path}`, 'utf8').trimEnd()
  } catch (cause) {
    throw failed(key, 'read', cause)
  }
}

/** Like `sysctl -w KEY=VALUE`. Throws `SysctlError`. */
export function writeSysctl(key: string, value: string): void {
  const path = sysctlKey(key)
  try {
    writeWhole(`/proc/sys/${path}`, value)
  } catch (cause) {
    throw failed(key, `set to ${JSON.stringify(value)}`, cause)
  }
}

/** In one write, as these files want it. */
function writeWhole(path: string, value: string): void {
  const sys = nativeSys()
  const fd = check(sys.open(path, constants.O_WRONLY, 0), 'open', path)
  try {
    check(sys.write(fd, Buffer.from(value)), 'write', path)
  } finally {
    sys.close(fd)
  }
}

function failed(key: string, what: string, cause: unknown): SysctlError {
  const code = cause instanceof Error && 'code' in cause ? String(cause.code) : String(cause)
  const missing = code === 'ENOENT'
  const why = missing ? 'the kernel has no such setting (is the interface there, the module loaded?)' : code
  return new SysctlError(missing ? 'missing' : 'refused', key, `sysctl ${key} cannot be ${what}: ${why}`, { cause })
}
