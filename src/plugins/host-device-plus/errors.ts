/** What a cloud refused, in CNI's words. */

import { CniError, invalidConfig, ioFailure, messageOf, tryAgain } from '#cni/errors.ts'
import { OpenStackError } from '#openstack/errors.ts'

/** Undefined for what is no cloud's error. What the same call may get later is 11, what its user has to mend first is 7 (configuration) or 5 (rights, certificates). */
export function cniErrorOf(error: unknown, doing: string): CniError {
  if (error instanceof CniError) return error
  if (!(error instanceof OpenStackError)) return ioFailure(doing, messageOf(error), { cause: error })
  switch (error.code) {
    case 'config':
    case 'bad-request':
    case 'not-found':
      return invalidConfig(doing, messageOf(error), { cause: error })
    case 'forbidden':
    case 'unauthorized':
    case 'no-endpoint':
    case 'tls':
      return ioFailure(doing, messageOf(error), { cause: error })
    default:
      return tryAgain(doing, messageOf(error), { cause: error })
  }
}
