/** What the kernel, the file system and the programs below say when they refuse, as codes of CNI: a table, and how an error is looked up in it. */

import type { CniErrorKind } from './errors.ts'

export interface Refusal {
  readonly kind: CniErrorKind
  /** What is behind it, for the user; absent where the message says all. */
  readonly remedy?: string
}

const io = (remedy: string): Refusal => ({ kind: 'ioFailure', remedy })
const again = (remedy: string): Refusal => ({ kind: 'tryAgain', remedy })

/** Names of errnos that tell more than that something failed. All the others are code 5 without a remedy. */
const byErrno: Readonly<Record<string, Refusal>> = {
  EPERM: io('the plugin needs the capabilities CAP_NET_ADMIN and CAP_SYS_ADMIN'),
  EACCES: io('the plugin may not do that: it runs as root, unless a security module forbids it'),
  EROFS: io('the file system is mounted read-only'),
  ENOSPC: io('the disk, or a table of the kernel, is full'),
  EDQUOT: io("the disk quota of the plugin's user is used up"),
  EMFILE: io('too many files are open in this process'),
  ENFILE: io('too many files are open on this machine'),
  EBUSY: io('somebody else uses the device or the name'),
  ENODEV: io('there is no such device, or it has just gone'),
  ENXIO: io('there is no such device, or it has just gone'),
  EOPNOTSUPP: io('this kernel, or this driver, cannot do that'),
  EAFNOSUPPORT: io('this kernel has that address family switched off'),
  EPROTONOSUPPORT: io('this kernel lacks a module for that'),
  EAGAIN: again('the kernel was busy'),
  EINTR: again('a signal came in between'),
  ENOBUFS: again("the kernel's buffers were full"),
  ENOMEM: again('the machine is short of memory'),
  ETIMEDOUT: again('no answer came in time'),
}

/** Errors of Heddle's own, by their class and code. The classes live on several floors, some of them above this one: so by name. */
const byCode: Readonly<Record<string, Refusal>> = {
  'LockError timeout': { kind: 'tryAgain' },
  'NftError timeout': { kind: 'tryAgain' },
  'NftError contended': { kind: 'tryAgain' },
  'NftError refused': { kind: 'ioFailure' },
  'NftError kernel': { kind: 'ioFailure' },
  'NftError malformed': { kind: 'ioFailure' },
  'NftError no-nft': { kind: 'ioFailure' },
  'IptablesError timeout': { kind: 'tryAgain' },
  'IptablesError contended': { kind: 'tryAgain' },
  'IptablesError refused': { kind: 'ioFailure' },
  'IptablesError no-program': { kind: 'ioFailure' },
  'NetnsError not-a-netns': { kind: 'invalidNetns' },
  'NetnsError netns-missing': { kind: 'invalidNetns' },
  'SysctlError bad-key': { kind: 'invalidConfig' },
  'SysctlError missing': { kind: 'ioFailure' },
  'SysctlError refused': { kind: 'ioFailure' },
  'JournalError corrupt': { kind: 'ioFailure' },
  'JournalError broken': { kind: 'ioFailure' },
}

/** The refusal that a thrown value is; undefined where nobody refused anything, and somebody forgot something. Pure. */
export function refusalOf(thrown: unknown): Refusal | undefined {
  if (!(thrown instanceof Error)) return undefined
  const code = 'code' in thrown && typeof thrown.code === 'string' ? thrown.code : ''
  const errno = 'errnoName' in thrown && typeof thrown.errnoName === 'string' ? thrown.errnoName : code
  // Node's own mistakes are called ERR_…: nobody refused those.
  if (/^E(?!RR_)[A-Z0-9]+$/.test(errno) && 'errno' in thrown && typeof thrown.errno === 'number')
    return Object.hasOwn(byErrno, errno) ? byErrno[errno] : { kind: 'ioFailure' }
  const name = `${thrown.name} ${code}`
  return Object.hasOwn(byCode, name) ? byCode[name] : undefined
}
