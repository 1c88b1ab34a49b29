/** Which boot of the machine this is: state from an earlier one describes a kernel that is gone. */

import { readFileSync } from 'node:fs'

let known: string | undefined

/** A UUID that the kernel chose at boot: no process sees another one come. */
export const bootId = (): string => (known ??= readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim())

/** When the machine was started, in seconds since 1970 by the clock of now. Source: proc(5), /proc/stat, `btime`. */
export const bootTime = (): number => Number(/^btime (\d+)$/m.exec(readFileSync('/proc/stat', 'utf8'))?.[1] ?? 0)
