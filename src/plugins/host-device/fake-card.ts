/** For tests: a card with virtual functions, which no test machine has. */

import { NetlinkError } from '#netlink/error.ts'
import { VLAN_PROTOCOL, type VfSettings } from '#netlink/link-vf.ts'
import { parseMac, ZERO_MAC } from '#ip/mac.ts'
import { ERRNO } from '#sys/errno.ts'
import type { VfCard } from './vf.ts'

/** As a driver has a function at first. */
export const FRESH: VfSettings = {
  mac: ZERO_MAC,
  vlan: { id: 0, qos: 0, protocol: VLAN_PROTOCOL['802.1q'] },
  spoofCheck: true,
  trust: false,
  linkState: 'auto',
  rate: { min: 0, max: 0 },
}

export class FakeCard implements VfCard {
  readonly pf: string
  readonly functions: VfSettings[]
  /** What was written, in order. */
  readonly written: VfSettings[] = []
  /** What the driver cannot. */
  refuses: keyof VfSettings | undefined
  errno: number = ERRNO.EINVAL

  constructor(pf: string, functions = 8) {
    this.pf = pf
    this.functions = Array.from({ length: functions }, () => FRESH)
  }

  read({ pf, vf }: { readonly pf: string; readonly vf: number }): VfSettings | undefined {
    return pf === this.pf ? this.functions[vf] : undefined
  }

  write({ vf }: { readonly vf: number }, settings: VfSettings): void {
    if (this.refuses !== undefined && settings[this.refuses] !== undefined)
      throw new NetlinkError(`link set ${this.pf} vf ${vf}`, this.errno)
    this.written.push(settings)
    this.functions[vf] = { ...this.functions[vf], ...settings }
  }
}

export const fakeMac = (last: number) => parseMac(`02:00:00:00:00:${last.toString(16).padStart(2, '0')}`)
