/** Which boot of the machine this is: state from an earlier one describes a kernel that is gone. */

import { readFileSync } from 'node:fs'

/** A UUID that the kernel chose at boot. */
export const bootId = (): string => readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
