import { CniError } from '#cni/errors.ts'

/** What CHECK answers when the machine differs from what ADD made; 100 and above belong to plugins (CNI SPEC.md §5). */
export const CHECK_FAILED = 100

/** `details` says what to do about it. */
export const checkFailed = (msg: string, details = 'run DEL and ADD for this attachment'): CniError =>
  new CniError(CHECK_FAILED, msg, details)
