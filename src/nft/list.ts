/** Reading tables, chains, rules and sets back, by dumps. Like `nft -a list table`. */

import { forEachAttribute } from '#codec/attributes.ts'
import type { Codec, Of } from '#codec/codec.ts'
import type { Reader, Writer } from '#codec/buffer.ts'
import type { NetlinkSocket } from '#netlink/socket.ts'
import { type DataTypeName, typesOfId } from './datatype.ts'
import { NftError } from './error.ts'
import { type ChainBase, type ChainType, type SetFlag, type TableFamily, type TableRef } from './table.ts'
import type { Existing } from './text.ts'
import { generation, translated } from './transaction.ts'
import { decodeComment } from './userdata.ts'
import {
  chainAttributes,
  ELEMENTS,
  familyName,
  familyNumber,
  hookName,
  LIST_ELEMENT,
  nfgenmsg,
  NFT_MSG,
  nftMessage,
  ruleAttributes,
  SET_FLAG,
  setAttributes,
  tableAttributes,
  VERDICT_TYPE,
  writeText,
} from './wire.ts'

/** A table as the kernel holds it. */
export interface KernelTable extends TableRef {
  readonly handle: bigint
  readonly flags: number
  /** How many chains, sets, objects and flowtables it holds. */
  readonly use: number
  readonly comment?: string
  readonly userdata?: Uint8Array
}

export interface KernelChain {
  readonly name: string
  readonly handle: bigint
  readonly flags: number
  readonly base?: ChainBase
  readonly comment?: string
  readonly userdata?: Uint8Array
}

export interface KernelRule {
  readonly chain: string
  readonly handle: bigint
  /** The expressions as attributes, undecoded. */
  readonly expressions: Uint8Array
  readonly comment?: string
  readonly userdata?: Uint8Array
}

export interface KernelSet {
  readonly name: string
  readonly handle: bigint
  /** SET_FLAG bits. */
  readonly bits: number
  readonly flags: readonly SetFlag[]
  /** Undefined for types that Heddle does not use. */
  readonly key: readonly DataTypeName[] | undefined
  readonly data?: readonly DataTypeName[] | 'verdict'
  readonly keyType: number
  readonly keyLength: number
  readonly dataType?: number
  readonly size?: number
  readonly timeout?: number
  readonly comment?: string
  readonly userdata?: Uint8Array
}

export interface AnonymousSet extends KernelSet {
  readonly elements: readonly Uint8Array[]
}

/** The structure of a table, all of one generation of the ruleset; what `renderTable` must know to replace it. */
export interface KernelStructure extends Existing {
  readonly generation: number
  readonly table: KernelTable
  readonly chains: readonly KernelChain[]
  readonly rules: readonly KernelRule[]
  /** Those with names. */
  readonly sets: readonly KernelSet[]
  /** Sets that belong to a rule, `{ 80, 443 }`, with their elements as attributes. */
  readonly anonymous: readonly AnonymousSet[]
}

type Where = { readonly family?: TableFamily | undefined }

function dump<T, R>(
  socket: NetlinkSocket,
  what: string,
  type: number,
  { family }: Where,
  codec: Codec<T>,
  convert: (family: TableFamily, value: T) => R | undefined,
  write?: (writer: Writer) => void,
): R[] {
  const message = nftMessage(() => `list ${what}`, type, family === undefined ? 0 : familyNumber[family], write)
  return translated(() =>
    socket.dump(message, (payload: Reader) => {
      const found = familyName(nfgenmsg.read(payload).family)
      return found === undefined ? undefined : convert(found, codec.read(payload))
    }),
  )
}

export const listTables = (socket: NetlinkSocket, where: Where = {}): KernelTable[] =>
  dump(socket, 'tables', NFT_MSG.getTable, where, tableAttributes, readTable)

export const getTable = (socket: NetlinkSocket, table: TableRef): KernelTable | undefined =>
  listTables(socket, table).find(({ name }) => name === table.name)

/** The kernel lists the chains of the whole family; those of other tables are left out here. */
export const listChains = (socket: NetlinkSocket, table: TableRef): KernelChain[] =>
  dump(socket, `chains of ${table.name}`, NFT_MSG.getChain, table, chainAttributes, (family, value) =>
    value.table === table.name ? readChain(family, value) : undefined,
  )

export const listRules = (socket: NetlinkSocket, table: TableRef, chain?: string): KernelRule[] =>
  dump(
    socket,
    `rules of ${table.name}`,
    NFT_MSG.getRule,
    table,
    ruleAttributes,
    (_, value) => (value.table === table.name ? readRule(value) : undefined),
    (writer) => {
      writeText(writer, 1, table.name)
      if (chain !== undefined) writeText(writer, 2, chain)
    },
  )

/** Declarations, without elements. Anonymous sets, which belong to a rule, are among them. */
export const listSets = (socket: NetlinkSocket, table: TableRef): KernelSet[] =>
  dump(
    socket,
    `sets of ${table.name}`,
    NFT_MSG.getSet,
    table,
    setAttributes,
    (_, value) => (value.table === table.name ? readSet(value) : undefined),
    (writer) => writeText(writer, 1, table.name),
  )

/** Readings that were disturbed by others are made again, so often. */
const ATTEMPTS = 16

/** Reads a table's whole structure at one generation; undefined when there is no such table. Throws `contended` when others never stop changing it. */
export function readStructure(socket: NetlinkSocket, table: TableRef): KernelStructure | undefined {
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const before = generation(socket)
    const structure = readOnce(socket, table, before)
    if (generation(socket) === before) return structure
  }
  throw new NftError(
    'contended',
    `table ${table.family} ${table.name} could not be read: the ruleset changed during each of ${ATTEMPTS} readings`,
  )
}

function readOnce(socket: NetlinkSocket, ref: TableRef, generation: number): KernelStructure | undefined {
  const table = getTable(socket, ref)
  if (table === undefined) return undefined
  try {
    const all = listSets(socket, ref)
    const anonymous = all
      .filter(isAnonymous)
      .map((set) => ({ ...set, elements: listRawElements(socket, ref, set.name) }))
    const sets = all.filter((set) => !isAnonymous(set))
    return { generation, table, chains: listChains(socket, ref), rules: listRules(socket, ref), sets, anonymous }
  } catch (error) {
    // Deleted meanwhile.
    if (error instanceof NftError && error.errnoName === 'ENOENT') return undefined
    throw error
  }
}

const isAnonymous = ({ bits }: Pick<KernelSet, 'bits'>): boolean => (bits & SET_FLAG.anonymous) !== 0

/** Elements as the attributes that the kernel sends, for sets of any type. */
function listRawElements(socket: NetlinkSocket, table: TableRef, set: string): Uint8Array[] {
  const message = nftMessage(
    () => `list elements of ${set}`,
    NFT_MSG.getElement,
    familyNumber[table.family],
    (writer) => {
      writeText(writer, ELEMENTS.table, table.name)
      writeText(writer, ELEMENTS.set, set)
    },
  )
  const items: Uint8Array[] = []
  const collect = (payload: Reader): undefined => {
    nfgenmsg.read(payload)
    forEachAttribute(payload, (type, list) => {
      if (type !== ELEMENTS.elements) return
      forEachAttribute(list, (item, reader) => {
        if (item === LIST_ELEMENT) items.push(reader.copy(reader.left))
      })
    })
  }
  translated(() => socket.dump(message, collect))
  return items
}

function readTable(family: TableFamily, value: Of<typeof tableAttributes>): KernelTable {
  const { name = '', handle = 0n, flags = 0, use = 0, userdata } = value
  return { family, name, handle, flags, use, ...described('table', userdata) }
}

function readChain(family: TableFamily, value: Of<typeof chainAttributes>): KernelChain {
  const { name = '', handle = 0n, flags = 0, hook, type, policy, userdata } = value
  const place = hook === undefined ? undefined : hookName(family, hook.number ?? 0)
  if (hook === undefined || place === undefined) return { name, handle, flags, ...described('chain', userdata) }
  const base: ChainBase = {
    type: chainType(type),
    hook: place,
    priority: hook.priority ?? 0,
    policy: policy === 0 ? 'drop' : 'accept',
    ...(hook.device === undefined ? {} : { device: hook.device }),
  }
  return { name, handle, flags, base, ...described('chain', userdata) }
}

const chainType = (type: string | undefined): ChainType => (type === 'nat' || type === 'route' ? type : 'filter')

function readRule({ chain = '', handle = 0n, expressions, userdata }: Of<typeof ruleAttributes>): KernelRule {
  return { chain, handle, expressions: expressions ?? new Uint8Array(), ...described('rule', userdata) }
}

function readSet(value: Of<typeof setAttributes>): KernelSet {
  const { name = '', handle = 0n, flags: bits = 0, keyType = 0, keyLength = 0, dataType, userdata } = value
  const size = value.description?.size
  const isMap = (bits & (SET_FLAG.map | SET_FLAG.object)) !== 0
  const data = dataType === VERDICT_TYPE ? 'verdict' : isMap ? (typesOfId(dataType ?? 0) ?? []) : undefined
  return {
    name,
    handle,
    bits,
    flags: (['constant', 'dynamic', 'interval', 'timeout'] as const).filter((flag) => (bits & SET_FLAG[flag]) !== 0),
    key: typesOfId(keyType),
    keyType,
    keyLength,
    ...(data === undefined ? {} : { data }),
    ...(dataType === undefined ? {} : { dataType }),
    ...(size === undefined || size === 0 ? {} : { size }),
    ...(value.timeout === undefined || value.timeout === 0n ? {} : { timeout: Number(value.timeout) }),
    ...described('set', userdata),
  }
}

function described(
  on: 'table' | 'chain' | 'rule' | 'set',
  userdata: Uint8Array | undefined,
): { comment?: string; userdata?: Uint8Array } {
  if (userdata === undefined) return {}
  const comment = decodeComment(on, userdata)
  return { userdata, ...(comment === undefined ? {} : { comment }) }
}
