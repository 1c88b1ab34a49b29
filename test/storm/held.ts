/** Who was told that an address is his: an address that two were told at the same time is what a pod network must never do. */

export class HeldAddresses {
  readonly #holders = new Map<string, string>()
  readonly violations: string[] = []
  #given = 0

  /** Addresses that were ever told to anybody. */
  get given(): number {
    return this.#given
  }

  /** An ADD was answered with these. */
  answered(pod: string, addresses: readonly string[]): void {
    for (const address of addresses) {
      this.#given++
      const holder = this.#holders.get(address)
      if (holder !== undefined && holder !== pod)
        this.violations.push(`${address} was given to ${pod} while ${holder} held it`)
      this.#holders.set(address, pod)
    }
  }

  /** A DEL is about to be sent: from now on somebody else may get them, whether the DEL succeeds or not. */
  released(pod: string): void {
    for (const [address, holder] of this.#holders) if (holder === pod) this.#holders.delete(address)
  }
}
