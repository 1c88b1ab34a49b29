/** Alone in a pod's namespace: for what has to be chosen there, such as a routing table, while another plugin may be choosing too. */

import { messageOf, tryAgain } from '#cni/errors.ts'
import { LockError, lockFile } from '#sys/flock.ts'
import type { Pod } from './pod.ts'

const LOCK_MS = 20_000

/**
 * Holds a lock on the namespace's own file, as the reference plugins do, until it is disposed of. By the open descriptor: the path may be gone, and must not be made
 * by locking it. Throws CniError 11 after 20 seconds.
 */
export async function lockPod(pod: Pod): Promise<Disposable> {
  try {
    return await lockFile(`/proc/self/fd/${pod.fd}`, { timeoutMs: LOCK_MS })
  } catch (error) {
    if (!(error instanceof LockError)) throw error
    throw tryAgain(`another program works in ${pod.path}`, messageOf(error), { cause: error })
  }
}
