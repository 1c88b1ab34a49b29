/** Which boot of the machine this is: state from an earlier one describes a kernel that is gone. */

import { readFileSync } from 'node:fs'

let known: string | undefined

/** A UUID that the kernel chose at boot: no process sees another one come. */
export const bootId = (): string => (known ??= readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim())
