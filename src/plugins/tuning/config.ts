/** The tuning plugin's configuration: every field of the reference plugin, from the configuration, `args.cni`, `runtimeConfig` and CNI_ARGS. */

import { isAbsolute } from 'node:path'

import * as v from 'valibot'

import { refuseUnknownArgs, wellKnownArgs } from '#cni/env.ts'
import { invalidConfig, invalidEnvironment, messageOf } from '#cni/errors.ts'
import type { PluginInput } from '#cni/plugin.ts'
import { intSchema, macSchema, parseWith } from '#cni/schema.ts'
import { isGroupMac, tryParseMac } from '#ip/mac.ts'
import type { MacText } from '#ip/text.ts'
import { sysctlKey } from '#sys/sysctl.ts'
import type { Asked } from './allowlist.ts'

export interface Setting extends Asked {
  readonly value: string
  /** `path` with the name of the pod's interface. */
  readonly target: string
}

/** What is not given stays as it is. */
export interface LinkTuning {
  readonly mac?: MacText | undefined
  readonly promisc?: true | undefined
  readonly mtu?: number | undefined
  readonly allmulti?: boolean | undefined
  readonly txQLen?: number | undefined
}

export interface TuningConf {
  readonly what: string
  /** Folder of the backups. */
  readonly dataDir: string
  readonly link: LinkTuning
  readonly sysctls: readonly Setting[]
}

/** Where the reference plugin has its files too. */
export const DATA_DIR = '/run/cni/tuning'

/** One page is what the kernel takes. */
const value = v.pipe(v.string(), v.maxLength(4095), v.regex(/^[^\n\0]*$/, 'one line'))

const tunables = {
  sysctl: v.nullish(v.record(v.pipe(v.string(), v.maxLength(256)), value), {}),
  mac: v.nullish(v.union([macSchema, v.literal('')])),
  promisc: v.nullish(v.boolean()),
  /** 0 leaves it alone. */
  mtu: v.nullish(intSchema(0, 0x7fff_ffff)),
  allmulti: v.nullish(v.boolean()),
  txQLen: v.nullish(intSchema(0, 0x7fff_ffff)),
}

const schema = v.object({ ...tunables, dataDir: v.nullish(v.string(), '') })
const argsSchema = v.object({ cni: v.nullish(v.object(tunables)) })
const runtimeSchema = v.object({ mac: v.nullish(v.union([macSchema, v.literal('')])) })

/** What is last in this row is first: CNI_ARGS' MAC before the configuration's, then `runtimeConfig`, then `args.cni`. Throws CniError 7, or 4 for CNI_ARGS. */
export function tuningConf(input: PluginInput): TuningConf {
  const { raw, args, runtimeConfig, name } = input.config
  const what = `tuning configuration of network ${JSON.stringify(name)}`
  refuseUnknownArgs(input.args, wellKnownArgs)
  const own = parseWith(schema, raw, what)
  const cni = parseWith(argsSchema, args, `args of the ${what}`).cni
  const runtime = parseWith(runtimeSchema, runtimeConfig, `runtimeConfig of the ${what}`)
  const mac = cni?.mac || runtime.mac || macOfArgs(input.args.get('MAC')) || own.mac || undefined
  if (mac !== undefined && isGroupMac(mac))
    throw invalidConfig(`${what}: "mac" ${mac} is a group address`, 'the first byte of an interface address is even')
  const sysctls = new Map([
    ...settingsOf(own.sysctl, what, input.ifname),
    ...settingsOf(cni?.sysctl ?? {}, `args of the ${what}`, input.ifname),
  ])
  return {
    what,
    dataDir: dataDirOf(own.dataDir, what),
    link: {
      mac,
      promisc: (cni?.promisc ?? own.promisc) === true ? true : undefined,
      mtu: (cni?.mtu ?? own.mtu) || undefined,
      allmulti: cni?.allmulti ?? own.allmulti ?? undefined,
      txQLen: cni?.txQLen ?? own.txQLen ?? undefined,
    },
    sysctls: [...sysctls.values()],
  }
}

function macOfArgs(text: string | undefined): MacText | undefined {
  if (text === undefined || text === '') return undefined
  const mac = tryParseMac(text)
  if (mac !== undefined) return mac
  const shown = JSON.stringify(text.slice(0, 64))
  throw invalidEnvironment(`CNI_ARGS MAC: ${shown} is not a MAC address`, 'write 0a:1b:2c:3d:4e:5f')
}

/** By what the kernel calls them. Throws CniError 7 for what is none of the network's, and for one that is written in two ways. */
function settingsOf(
  sysctl: Readonly<Record<string, string>>,
  what: string,
  ifname: string,
): ReadonlyMap<string, Setting> {
  const settings = new Map<string, Setting>()
  for (const [key, text] of Object.entries(sysctl)) {
    const path = pathOf(key, what)
    const target = path
      .split('/')
      .map((part) => (part === 'IFNAME' ? ifname : part))
      .join('/')
    const twin = settings.get(target)
    if (twin !== undefined)
      throw invalidConfig(`${what}: sysctls ${JSON.stringify(twin.key)} and ${JSON.stringify(key)} are the same`)
    settings.set(target, { key, path, target, value: text })
  }
  return settings
}

function pathOf(key: string, what: string): string {
  let path: string
  try {
    path = sysctlKey(key)
  } catch (error) {
    throw invalidConfig(`${what}: "sysctl"`, messageOf(error))
  }
  if (path.startsWith('net/')) return path
  throw invalidConfig(`${what}: sysctl ${JSON.stringify(key)} is none of the network's`, 'it begins with "net."')
}

/** For verbs that clean up: where no ADD accepts the folder, nothing can be in it. */
export const dataDirIn = ({ config }: PluginInput): string => {
  const { dataDir } = config.raw
  return typeof dataDir === 'string' && isFolder(dataDir) ? dataDir : DATA_DIR
}

const isFolder = (text: string): boolean => isAbsolute(text) && !text.split('/').includes('..') && !text.includes('\0')

function dataDirOf(text: string, what: string): string {
  if (text === '') return DATA_DIR
  if (isFolder(text)) return text
  throw invalidConfig(`${what}: "dataDir" is ${JSON.stringify(text.slice(0, 128))}`, 'it is an absolute path')
}
