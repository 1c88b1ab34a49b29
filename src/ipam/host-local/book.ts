/** What one may do with a network's address files while their lock is held. */

import * as fs from 'node:fs'
import { join } from 'node:path'

import { CniError, ioFailure, messageOf } from '#cni/errors.ts'
import type { Attachment } from '#cni/plugin.ts'
import { tryParseIp, type Ip, type IpText } from '#ip/address.ts'
import { hasCode } from '#sys/errno.ts'
import { contentOf, type AddressIndex } from './index.ts'
import { Reservation } from './reservation.ts'

/** Start of the names of files that are not linked to an address yet. */
export const TEMPORARY = '.heddle-'

/** The address files while the lock is held. Do not keep it. */
export class AddressBook {
  readonly directory: string
  readonly #current: () => AddressIndex
  /** Forgets what is known and reads every file: the last resort before an address pool is called full. */
  readonly reread: () => void

  constructor(directory: string, current: () => AddressIndex, reread: () => void) {
    this.directory = directory
    this.#current = current
    this.reread = reread
  }

  get index(): AddressIndex {
    return this.#current()
  }

  /**
   * Reserves all of `ips` for an owner; none of them when it throws. Nobody else is given them from now on, but they are answered only after the
   * reservation's `sync`, which needs no lock. Undefined when one of them exists after all (somebody works without the lock): look again and choose anew.
   */
  reserve(ips: readonly IpText[], owner: Attachment, step: (name: string) => void): Reservation | undefined {
    const temporary = join(this.directory, `${TEMPORARY}${process.pid}`)
    const reservation = new Reservation(this.directory)
    const done: IpText[] = []
    try {
      reservation.write(temporary, contentOf(owner))
      for (const ip of ips) {
        step('reserve')
        if (!reservation.link(temporary, ip)) {
          reservation[Symbol.dispose]()
          this.release(done)
          return undefined
        }
        done.push(ip)
        this.index.set(ip, ip, owner)
        step('reserved')
      }
      return reservation
    } catch (error) {
      reservation[Symbol.dispose]()
      this.release(done)
      if (error instanceof CniError) throw error
      throw ioFailure(`addresses cannot be written to ${this.directory}`, messageOf(error), { cause: error })
    } finally {
      remove(temporary)
    }
  }

  /** Removes address files; those already gone are fine. */
  release(ips: readonly IpText[]): void {
    for (const ip of ips) {
      const file = this.index.get(ip)?.file ?? ip
      remove(join(this.directory, file))
      this.index.delete(ip)
    }
  }

  /** Where the round robin of a range set stands. A hint only, so a torn file is no error. */
  lastReserved(set: number): Ip | undefined {
    try {
      return tryParseIp(fs.readFileSync(join(this.directory, `last_reserved_ip.${set}`), 'utf8').trim())
    } catch {
      return undefined
    }
  }

  /** Overwrites without emptying first: ext4 flushes a file that was emptied and rewritten when it is closed, which costs a millisecond. */
  setLastReserved(set: number, ip: IpText): void {
    const path = join(this.directory, `last_reserved_ip.${set}`)
    const fd = fs.openSync(path, fs.constants.O_WRONLY | fs.constants.O_CREAT | fs.constants.O_NOFOLLOW, 0o600)
    try {
      fs.writeSync(fd, ip, 0)
      if (fs.fstatSync(fd).size !== ip.length) fs.ftruncateSync(fd, ip.length)
    } finally {
      fs.closeSync(fd)
    }
  }
}

/** Like `rm -f`, in one system call. */
function remove(path: string): void {
  try {
    fs.unlinkSync(path)
  } catch (error) {
    if (!hasCode(error, 'ENOENT')) throw error
  }
}
