/** Linux error numbers (asm-generic/errno.h: the same on x86-64 and arm64) and the error that carries them. */

export const ERRNO = {
  EPERM: 1,
  ENOENT: 2,
  ESRCH: 3,
  EINTR: 4,
  EIO: 5,
  ENXIO: 6,
  E2BIG: 7,
  EBADF: 9,
  ECHILD: 10,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EFAULT: 14,
  EBUSY: 16,
  EEXIST: 17,
  EXDEV: 18,
  ENODEV: 19,
  ENOTDIR: 20,
  EISDIR: 21,
  EINVAL: 22,
  ENFILE: 23,
  EMFILE: 24,
  ENOTTY: 25,
  EFBIG: 27,
  ENOSPC: 28,
  EROFS: 30,
  EPIPE: 32,
  EDOM: 33,
  ERANGE: 34,
  EDEADLK: 35,
  ENAMETOOLONG: 36,
  ENOSYS: 38,
  ENOTEMPTY: 39,
  ELOOP: 40,
  ENODATA: 61,
  EPROTO: 71,
  EBADMSG: 74,
  EOVERFLOW: 75,
  EUSERS: 87,
  ENOTSOCK: 88,
  EMSGSIZE: 90,
  EPROTOTYPE: 91,
  ENOPROTOOPT: 92,
  EPROTONOSUPPORT: 93,
  ESOCKTNOSUPPORT: 94,
  EOPNOTSUPP: 95,
  EPFNOSUPPORT: 96,
  EAFNOSUPPORT: 97,
  EADDRINUSE: 98,
  EADDRNOTAVAIL: 99,
  ENETDOWN: 100,
  ENETUNREACH: 101,
  ECONNABORTED: 103,
  ECONNRESET: 104,
  ENOBUFS: 105,
  EISCONN: 106,
  ENOTCONN: 107,
  ETIMEDOUT: 110,
  ECONNREFUSED: 111,
  EHOSTDOWN: 112,
  EHOSTUNREACH: 113,
  EALREADY: 114,
  EINPROGRESS: 115,
  ESTALE: 116,
  EDQUOT: 122,
  ECANCELED: 125,
} as const

/** A name of `ERRNO`, or `E` and the number for one that is not listed. */
export type ErrnoName = keyof typeof ERRNO | `E${number}`

const names = new Map<number, ErrnoName>()
for (const [name, number] of Object.entries(ERRNO)) if (isErrnoName(name)) names.set(number, name)

function isErrnoName(name: string): name is keyof typeof ERRNO {
  return Object.hasOwn(ERRNO, name)
}

/** The name of a positive errno: 2 → `ENOENT`. */
export const errnoName = (errno: number): ErrnoName => names.get(errno) ?? `E${errno}`

/** A system call failed. `code` is the errno's name as in Node's own errors. */
export class SysError extends Error {
  override readonly name: string = 'SysError'
  readonly code: ErrnoName
  readonly errno: number
  readonly syscall: string
  /** The path, device or other object of the call, where there is one. */
  readonly object: string | undefined

  constructor(errno: number, syscall: string, object?: string) {
    super(`${syscall}${object === undefined ? '' : ` ${object}`}: ${errnoName(errno)}`)
    this.code = errnoName(errno)
    this.errno = errno
    this.syscall = syscall
    this.object = object
  }
}

/** A non-negative result as it is; a negative one as `SysError`. */
export function check(rc: number, syscall: string, object?: string): number {
  if (rc < 0) throw new SysError(-rc, syscall, object)
  return rc
}

/** True when an error (ours or Node's) carries one of these errno names. */
export function hasCode(error: unknown, ...codes: readonly string[]): boolean {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' && codes.includes(error.code)
}
