/**
 * A hash over a table's structure, to see whether anybody changed it. Pure.
 *
 * It covers chains, rules with their comments, declarations, and the elements of anonymous sets; not handles, not counters' values, not the elements of named sets.
 * Two tables made from the same text have the same fingerprint.
 */

import { createHash, type Hash } from 'node:crypto'
import { forEachAttribute } from '#codec/attributes.ts'
import { Reader } from '#codec/buffer.ts'
import type { AnonymousSet, KernelChain, KernelRule, KernelSet, KernelStructure } from './list.ts'
import { ELEMENT } from './wire.ts'

/** 32 hexadecimal digits. */
export function fingerprint(structure: KernelStructure): string {
  const hash = createHash('sha256')
  const { table } = structure
  put(hash, 'table', table.family, table.name, table.flags, table.use)
  putBytes(hash, table.userdata)
  for (const set of byName(structure.sets)) putSet(hash, set)
  const anonymous = new Map(structure.anonymous.map((set) => [set.name, contentOf(set)]))
  for (const chain of byName(structure.chains)) {
    putChain(hash, chain)
    for (const rule of structure.rules) if (rule.chain === chain.name) putRule(hash, rule, anonymous)
  }
  return hash.digest('hex').slice(0, 32)
}

/** The same of one rule, for rules without sets of their own, such as those of iptables. */
export function ruleFingerprint(rule: KernelRule): string {
  const hash = createHash('sha256')
  putRule(hash, rule, new Map())
  return hash.digest('hex').slice(0, 32)
}

const byName = <T extends { readonly name: string }>(items: readonly T[]): T[] =>
  [...items].sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0))

function putChain(hash: Hash, chain: KernelChain): void {
  const { base } = chain
  put(hash, 'chain', chain.name, chain.flags)
  if (base !== undefined) put(hash, base.type, base.hook, base.priority, base.policy ?? '', base.device ?? '')
  putBytes(hash, chain.userdata)
}

function putSet(hash: Hash, set: KernelSet): void {
  put(
    hash,
    'set',
    set.name,
    set.bits,
    set.keyType,
    set.keyLength,
    set.dataType ?? '',
    set.size ?? '',
    set.timeout ?? '',
  )
  putBytes(hash, set.userdata)
}

function putRule(hash: Hash, rule: KernelRule, anonymous: ReadonlyMap<string, string>): void {
  put(hash, 'rule')
  putBytes(hash, rule.userdata)
  forEachAttribute(new Reader(rule.expressions), (_, expression) => {
    let name = ''
    forEachAttribute(expression, (type, payload) => {
      if (type === EXPRESSION.name) name = textOf(payload)
      else if (type === EXPRESSION.data) putExpression(hash, name, payload, anonymous)
    })
    put(hash, name)
  })
}

/** NFTA_EXPR_*, and the attributes within that are state instead of structure. */
const EXPRESSION = { name: 1, data: 2 } as const
const LOOKUP_SET = 1
const QUOTA_CONSUMED = 4

function putExpression(hash: Hash, name: string, data: Reader, anonymous: ReadonlyMap<string, string>): void {
  if (name === 'counter' || name === 'last') return
  forEachAttribute(data, (type, payload) => {
    if (name === 'quota' && type === QUOTA_CONSUMED) return
    const bytes = payload.copy(payload.left)
    const content = name === 'lookup' && type === LOOKUP_SET ? anonymous.get(textOf(new Reader(bytes))) : undefined
    put(hash, type)
    if (content === undefined) putBytes(hash, bytes)
    else put(hash, content)
  })
}

/** The name of an anonymous set is the kernel's choice; its declaration and elements are what the rule says. */
function contentOf(set: AnonymousSet): string {
  const hash = createHash('sha256')
  putSet(hash, { ...set, name: '' })
  const elements = set.elements.map((bytes) => {
    const parts: string[] = []
    forEachAttribute(new Reader(bytes), (type, payload) => {
      if (STRUCTURE_OF_ELEMENT.has(type))
        parts.push(`${type}=${Buffer.from(payload.copy(payload.left)).toString('hex')}`)
    })
    return parts.join()
  })
  put(hash, ...elements.sort())
  return hash.digest('hex')
}

const STRUCTURE_OF_ELEMENT: ReadonlySet<number> = new Set([ELEMENT.key, ELEMENT.keyEnd, ELEMENT.data, ELEMENT.flags])

const textOf = (reader: Reader): string => Buffer.from(reader.copy(reader.left)).toString('utf8').replace(/\0.*$/s, '')

/** Length first, so that no two lists of values look the same. */
function put(hash: Hash, ...values: readonly (string | number)[]): void {
  for (const value of values) hash.update(`${Buffer.byteLength(String(value))}:${value}`)
}

function putBytes(hash: Hash, bytes: Uint8Array | undefined): void {
  hash.update(`${bytes === undefined ? '-' : bytes.length}:`)
  if (bytes !== undefined) hash.update(bytes)
}
