/** Numbers of the system-call interface (x86-64 and arm64 agree on all of these). */

export const AF = { UNSPEC: 0, UNIX: 1, INET: 2, BRIDGE: 7, INET6: 10, NETLINK: 16, PACKET: 17 } as const

export const SOCK = { STREAM: 1, DGRAM: 2, RAW: 3, NONBLOCK: 0o4000 } as const

export const SOL = { SOCKET: 1, NETLINK: 270 } as const

export const SO = {
  ERROR: 4,
  SNDBUF: 7,
  RCVBUF: 8,
  PEERCRED: 17,
  RCVTIMEO: 20,
  SNDTIMEO: 21,
  SNDBUFFORCE: 32,
  RCVBUFFORCE: 33,
  NETNS_COOKIE: 71,
} as const

export const MSG = { PEEK: 2, TRUNC: 0x20, DONTWAIT: 0x40 } as const

/** `how` of shutdown(2): nothing more is sent. */
export const SHUT_WR = 1

export const MS = { BIND: 4096, REC: 16384, PRIVATE: 1 << 18, SHARED: 1 << 20 } as const

export const MNT_DETACH = 2

export const CLONE_NEWNET = 0x4000_0000

export const LOCK = { SH: 1, EX: 2, NB: 4, UN: 8 } as const

/** Returns a descriptor of the namespace that a socket belongs to (linux/sockios.h). */
export const SIOCGSKNS = 0x894c

/** statfs type of namespace files (linux/magic.h). */
export const NSFS_MAGIC = 0x6e73_6673
