/** Making a TAP device that stays. Like `ip tuntap add mode tap`. Source: linux/if_tun.h, Documentation/networking/tuntap.rst. */

import { execFileSync } from 'node:child_process'
import { constants, existsSync, writeFileSync } from 'node:fs'

import { invalidConfig, ioFailure, messageOf, unsupportedField } from '#cni/errors.ts'
import { nativeSys } from '#sys/addon.ts'
import { check, hasCode } from '#sys/errno.ts'
import { inNetns } from '#sys/netns.ts'

export interface TapDevice {
  readonly name: string
  readonly multiQueue: boolean
  /** User and group that may open it without privileges. */
  readonly owner?: number | undefined
  readonly group?: number | undefined
}

const IFF = { TAP: 0x2, MULTI_QUEUE: 0x100, NO_PI: 0x1000, TUN_EXCL: 0x8000 } as const
const TUNSETIFF = 0x4004_54ca
const TUNSETPERSIST = 0x4004_54cb
const TUNSETOWNER = 0x4004_54cc
const TUNSETGROUP = 0x4004_54ce
const TUN_FILE = '/dev/net/tun'

/** struct ifreq: 16 bytes of name, then the flags. */
function ifreq(name: string, flags: number): Uint8Array {
  const bytes = Buffer.alloc(40)
  bytes.write(name, 0, 15)
  bytes.writeUInt16LE(flags, 16)
  return bytes
}

/**
 * Makes the device in a namespace, under its final name, down. A kill before the last step leaves nothing, because until then it lives as long as its descriptor.
 * Throws `SysError`, CniError 2 on a machine without TAP devices.
 */
export function createTap(netns: number, { name, multiQueue, owner, group }: TapDevice): void {
  const sys = nativeSys()
  const fd = inNetns(netns, () => sys.open(TUN_FILE, constants.O_RDWR, 0))
  try {
    check(fd, 'open', TUN_FILE)
  } catch (error) {
    if (!hasCode(error, 'ENOENT', 'ENODEV', 'ENXIO')) throw error
    throw unsupportedField('this machine has no TAP devices', `modprobe tun; ${TUN_FILE} must be there`, {
      cause: error,
    })
  }
  try {
    const flags = IFF.TAP | IFF.NO_PI | IFF.TUN_EXCL | (multiQueue ? IFF.MULTI_QUEUE : 0)
    check(sys.ioctl(fd, TUNSETIFF, ifreq(name, flags)), 'ioctl TUNSETIFF', name)
    if (owner !== undefined) check(sys.ioctl(fd, TUNSETOWNER, owner), 'ioctl TUNSETOWNER', name)
    if (group !== undefined) check(sys.ioctl(fd, TUNSETGROUP, group), 'ioctl TUNSETGROUP', name)
    check(sys.ioctl(fd, TUNSETPERSIST, 1), 'ioctl TUNSETPERSIST', name)
  } finally {
    sys.close(fd)
  }
}

const EXEC_LABEL = '/proc/thread-self/attr/exec'
const DEADLINE_MS = 10_000

/**
 * Makes it with an SELinux label, which a device has from the process that makes it. A process of several threads cannot change its own, so this takes one of
 * another program, and policies know that of `ip`. Throws CniError 7 on a machine without SELinux.
 */
export function createLabelledTap(netns: number, device: TapDevice, label: string): void {
  if (!existsSync('/sys/fs/selinux/enforce')) {
    throw invalidConfig(`"selinuxContext" is ${JSON.stringify(label)}, and this machine has no SELinux`, 'leave it out')
  }
  const { name, multiQueue, owner, group } = device
  const args = ['tuntap', 'add', 'mode', 'tap', 'name', name]
  if (multiQueue) args.push('multi_queue')
  if (owner !== undefined) args.push('user', String(owner))
  if (group !== undefined) args.push('group', String(group))
  try {
    writeFileSync(EXEC_LABEL, label)
    inNetns(netns, () => execFileSync('ip', args, { stdio: ['ignore', 'ignore', 'pipe'], timeout: DEADLINE_MS }))
  } catch (error) {
    throw ioFailure(`no TAP device with the SELinux label ${JSON.stringify(label)}`, messageOf(error), { cause: error })
  } finally {
    writeFileSync(EXEC_LABEL, '')
  }
}
