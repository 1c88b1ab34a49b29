/**
 * What the plugins that wire pods have to know of the node's place in the cloud: its own card and the subnets that pods get addresses of. Written by whoever
 * keeps the port (the daemon, or a plugin in direct mode) to `networks.json` of the state directory, before the first address is given out.
 */

import { readFileSync } from 'node:fs'
import { join } from 'node:path'

import * as v from 'valibot'

import type { NetConf } from '#cni/config.ts'
import { invalidConfig, ioFailure, messageOf, tryAgain } from '#cni/errors.ts'
import { cidrSchema, intSchema, ipSchema, macSchema, parseWith } from '#cni/schema.ts'
import { parseIp } from '#ip/address.ts'
import { contains, parseCidr } from '#ip/prefix.ts'
import type { IpText } from '#ip/text.ts'
import { writeFileAtomic } from '#sys/atomic-file.ts'
import { hasCode } from '#sys/errno.ts'

export const DEFAULT_STATE_DIR = '/var/lib/cni/neutron-ipam'
export const FACTS_FILE = 'networks.json'

const validities = ['fixed_ips', 'address_pairs', 'prefix', 'port'] as const
/** How Neutron is made to let a pod's address through: addresses of the VM's port, pairs on it, one pair for sixteen, or nothing (a port each, as reservation). */
export type Validity = (typeof validities)[number]

const id = v.pipe(v.string(), v.regex(/^[\w.:-]{1,64}$/, 'is no id'))

const Facts = v.object({
  version: v.literal(1),
  node: v.object({
    /** The first address of the card: its source for pods, and what is routed to through the node. */
    address: ipSchema,
    /** All of the node's own, both families. */
    addresses: v.pipe(v.array(ipSchema), v.maxLength(64)),
    mac: macSchema,
    /** The card, by its name in the host. */
    interface: v.pipe(v.string(), v.regex(/^[^\s/]{1,15}$/, 'is no name of an interface')),
    port: id,
  }),
  validity: v.picklist(validities),
  subnets: v.pipe(
    v.array(
      v.object({
        id,
        network: id,
        cidr: cidrSchema,
        gateway: v.optional(ipSchema),
        /** Of the network: pods' devices may have no more. 0 where Neutron does not say. */
        mtu: intSchema(0, 65_535),
      }),
    ),
    v.maxLength(256),
  ),
})
export type Facts = v.InferOutput<typeof Facts>
export type SubnetFacts = Facts['subnets'][number]

const Dir = v.object({ stateDir: v.nullish(v.string(), '') })

/** Where the facts of this configuration are. Throws CniError 7 for a `stateDir` that is no absolute path. */
export function factsPathOf(config: NetConf, root: string): string {
  const where = `ipam of network ${JSON.stringify(config.name)}`
  const { stateDir } = parseWith(Dir, config.ipam.raw, where)
  const dir = stateDir === '' ? DEFAULT_STATE_DIR : stateDir
  if (!dir.startsWith('/'))
    throw invalidConfig(`${where}: "stateDir" is ${JSON.stringify(dir)}`, 'write an absolute path')
  return join(root, dir, FACTS_FILE)
}

/** Reads the facts. Throws CniError 11 where nobody has written them yet, 5 or 6 for a file that cannot be read. */
export function readFacts(path: string): Facts {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENOTDIR'))
      throw tryAgain(
        `${path} is not there yet`,
        'neutron-ipam writes it before it gives out an address: is it the ipam plugin?',
      )
    throw ioFailure(`${path} cannot be read`, messageOf(error), { cause: error })
  }
  let raw: unknown
  try {
    raw = JSON.parse(text)
  } catch {
    raw = undefined
  }
  return parseWith(Facts, raw, path, 'decodingFailure')
}

/** Like `readFacts`; undefined where nobody has written them. */
export function tryReadFacts(path: string): Facts | undefined {
  try {
    return readFacts(path)
  } catch (error) {
    if (error instanceof Error && 'kind' in error && error.kind === 'tryAgain') return undefined
    throw error
  }
}

/** Writes them, whole or not at all; leaves a file that says the same untouched. */
export async function writeFacts(path: string, facts: Facts): Promise<void> {
  const text = `${JSON.stringify(facts, undefined, 2)}\n`
  try {
    if (readFileSync(path, 'utf8') === text) return
  } catch (error) {
    if (!hasCode(error, 'ENOENT')) throw error
  }
  await writeFileAtomic(path, text)
}

/** The subnet that an address lies in; undefined for one of another network. */
export function subnetOf(facts: Facts, address: IpText): SubnetFacts | undefined {
  const ip = parseIp(address)
  return facts.subnets.find(({ cidr }) => contains(parseCidr(cidr), ip))
}
