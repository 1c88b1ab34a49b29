/** The pod's network namespace while a verb works in it. */

import { invalidNetns, messageOf } from '#cni/errors.ts'
import { NetlinkSocket } from '#netlink/socket.ts'
import { nativeSys } from '#sys/addon.ts'
import { NetnsError, openNetns } from '#sys/netns.ts'

export interface Pod extends Disposable {
  readonly path: string
  readonly fd: number
  readonly netlink: NetlinkSocket
}

/** Throws CniError 8 when the path is no network namespace. */
export function openPod(path: string): Pod {
  let fd: number
  try {
    fd = openNetns(path)
  } catch (error) {
    throw invalidNetns(`CNI_NETNS ${path} cannot be opened`, messageOf(error), { cause: error })
  }
  try {
    const netlink = NetlinkSocket.open({ netns: fd })
    const dispose = (): void => {
      netlink[Symbol.dispose]()
      nativeSys().close(fd)
    }
    return { path, fd, netlink, [Symbol.dispose]: dispose }
  } catch (error) {
    nativeSys().close(fd)
    if (!(error instanceof NetnsError)) throw error
    throw invalidNetns(`CNI_NETNS ${path} is no network namespace`, messageOf(error), { cause: error })
  }
}

/** For DEL: undefined where there is no path, or nothing behind it any more. */
export function openPodIfThere(path: string): Pod | undefined {
  if (path === '') return undefined
  try {
    return openPod(path)
  } catch {
    return undefined
  }
}
