/** Reads a resolv.conf(5) into a result's `dns`. */

import { readFileSync } from 'node:fs'

import { dnsOf } from '#cni/config.ts'
import { ioFailure, messageOf } from '#cni/errors.ts'
import type { Dns } from '#cni/result.ts'

/** Far more than any real file; a device or a log by mistake is refused by size of what is kept. */
const MAX_CHARS = 65_536

/** Throws CniError 5 when the file cannot be read. */
export function readResolvConf(path: string): Dns {
  try {
    return parseResolvConf(readFileSync(path, 'utf8').slice(0, MAX_CHARS))
  } catch (error) {
    throw ioFailure(`resolvConf ${JSON.stringify(path)} cannot be read`, messageOf(error), { cause: error })
  }
}

/** Keeps nameserver lines in order, the last domain and search, and all options; comments start with `#` or `;`. */
export function parseResolvConf(text: string): Dns {
  const nameservers: string[] = []
  const options: string[] = []
  let domain: string | undefined
  let search: readonly string[] | undefined
  for (const line of text.split('\n')) {
    const [keyword, ...values] = line.trim().split(/\s+/)
    if (keyword === 'nameserver' && values[0] !== undefined) nameservers.push(values[0])
    else if (keyword === 'domain' && values[0] !== undefined) domain = values[0]
    else if (keyword === 'search') search = values
    else if (keyword === 'options') options.push(...values)
  }
  return dnsOf({ nameservers, domain, search, options })
}
