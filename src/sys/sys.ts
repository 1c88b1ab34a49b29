/** The system calls that Heddle needs, as narrow as they can be, so that another runtime or a fake can stand in. */

/** What `pollOpen` returns; opaque. */
export interface PollHandle {
  readonly pollHandle?: never
}

/**
 * Raw calls. Every function that returns a number returns the call's result, or `-errno`: hot loops decide for
 * themselves what an error is. `check` in errno.ts turns a negative result into a `SysError`.
 *
 * File descriptors made here are close-on-exec. Byte arrays are read and written in place by synchronous calls; calls
 * that return a promise copy them first.
 */
export interface Sys {
  open(path: string, flags: number, mode: number): number
  close(fd: number): number
  read(fd: number, buffer: Uint8Array): number
  write(fd: number, bytes: Uint8Array): number
  /** Bytes for requests that take a pointer, an unsigned integer for those that take a value (TUNSETOWNER). */
  ioctl(fd: number, request: number, argument?: Uint8Array | number | null): number
  /** With `LOCK_NB`; `flockWait` is the one that waits. */
  flock(fd: number, operation: number): number
  mount(source: string, target: string, type: string, flags: number, data: string): number
  umount(target: string, flags: number): number

  socket(domain: number, type: number, protocol: number): number
  bind(fd: number, address: Uint8Array): number
  connect(fd: number, address: Uint8Array): number
  listen(fd: number, backlog: number): number
  accept(fd: number, flags: number): number
  shutdown(fd: number, how: number): number
  getsockname(fd: number, out: Uint8Array): number
  getsockopt(fd: number, level: number, name: number, out: Uint8Array): number
  setsockopt(fd: number, level: number, name: number, value: Uint8Array): number
  /** `program`: an array of struct sock_filter, classic BPF in native byte order. */
  attachFilter(fd: number, program: Uint8Array): number
  send(fd: number, bytes: Uint8Array, flags: number, address?: Uint8Array | null): number
  recv(fd: number, buffer: Uint8Array, flags: number): number
  sendmsg(fd: number, bytes: Uint8Array, address: Uint8Array | null, control: Uint8Array | null, flags: number): number
  /** `lengths`: 12 bytes that receive the address length, the control length and msg_flags as native int32. */
  recvmsg(
    fd: number,
    buffer: Uint8Array,
    address: Uint8Array | null,
    control: Uint8Array | null,
    flags: number,
    lengths: Uint8Array,
  ): number
  /**
   * Like sendmmsg, for at most 64 messages and 1024 parts in one array. `table`: five native int32 a message, the number of its
   * parts, and offset and length of its address and of its control data; `parts`: offset and length of each, those of all messages
   * in a row. Sends `count` messages from number `first` on. How many were sent, or -errno of the first. Throws RangeError for
   * what lies outside.
   */
  sendMany(
    fd: number,
    bytes: Uint8Array,
    parts: Uint8Array,
    table: Uint8Array,
    first: number,
    count: number,
    flags: number,
  ): number
  /** One writev for each message of the same tables. */
  writeMany(fd: number, bytes: Uint8Array, parts: Uint8Array, table: Uint8Array, first: number, count: number): number
  /**
   * Like recvmmsg, at most 64 messages. `table`: nine native int32 a slot, offset and room of the payload, of the address, of the
   * control data; length, control length and msg_flags of what arrived are filled in.
   */
  recvMany(fd: number, bytes: Uint8Array, table: Uint8Array, count: number, flags: number): number
  /**
   * Reads until there is nothing more: each packet into up to `room` bytes, the first at `start`, the next at multiples of 64 after.
   * `found` receives offset and length of each as native int32.
   */
  readMany(fd: number, bytes: Uint8Array, start: number, room: number, found: Uint8Array, count: number): number

  /** Moves the calling thread. Only `inNetns` may call it. */
  setns(fd: number, type: number): number
  /** Makes a network namespace and bind-mounts it on the file at `path`, which must exist. */
  createNetns(path: string): number
  gettid(): number
  prctl(option: number, argument: number): number
  /** Effective and permitted capabilities of this thread become exactly these 64 bits, given as two halves. */
  capSet(low: number, high: number): number

  /** A watcher of a descriptor, stopped; or `-errno`. The callback gets libuv's status (< 0: an errno) and events. */
  pollOpen(fd: number, callback: (status: number, events: number) => void): PollHandle | number
  /** 1 readable, 2 writable; 0 stops. */
  pollStart(handle: PollHandle, events: number): number
  pollRef(handle: PollHandle, keepAlive: 0 | 1): number
  pollClose(handle: PollHandle): number

  /** On the thread pool: send, then receive `datagrams` datagrams, at most `size` bytes in all. */
  exchange(fd: number, bytes: Uint8Array, datagrams: number, size: number): Promise<Exchanged>
  /** On the thread pool: flock with a deadline; 0, -ETIMEDOUT or another -errno. The fd must stay open meanwhile. */
  flockWait(fd: number, operation: number, timeoutMs: number): Promise<number>
  createNetnsOnPool(path: string): Promise<number>
  /** Holds one pool thread for up to 999 ms; resolves with its thread id. */
  rest(ms: number): Promise<number>
}

export interface Exchanged {
  /** Bytes received, or -errno. */
  readonly rc: number
  readonly bytes: Uint8Array
}
