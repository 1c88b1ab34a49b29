/** clouds.yaml and the environment, as openstacksdk and the `openstack` command read them. */

import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

import * as v from 'valibot'
import { parse as parseYaml } from 'yaml'

import { cloudConfig, type CloudConfig, type Settings } from './config.ts'
import { OpenStackError } from './errors.ts'

export interface CloudOptions {
  /** The file; default: `OS_CLIENT_CONFIG_FILE`, then clouds.yaml in the working folder, `~/.config/openstack`, `/etc/openstack`. */
  readonly file?: string
  /** Its name in the file; default: `OS_CLOUD`. */
  readonly cloud?: string
  readonly env?: { readonly [name: string]: string | undefined }
  readonly cwd?: string
}

const Scalar = v.union([v.string(), v.number(), v.boolean(), v.null()])
const Cloud = v.looseObject({ auth: v.optional(v.record(v.string(), Scalar), {}) })
const File = v.looseObject({ clouds: v.optional(v.nullable(v.record(v.string(), Cloud)), {}) })
type File = v.InferOutput<typeof File>

/** No clouds.yaml comes near it. */
const MAX_BYTES = 1 << 20

const fail = (message: string, cause?: unknown): OpenStackError => new OpenStackError('config', message, { cause })

function readFile(path: string): File {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (cause) {
    throw fail(`${path} cannot be read: ${cause instanceof Error ? cause.message : String(cause)}`, cause)
  }
  if (text.length > MAX_BYTES) throw fail(`${path} has more than ${MAX_BYTES} bytes: it is no clouds.yaml`)
  let raw: unknown
  try {
    raw = parseYaml(text, { maxAliasCount: 100 })
  } catch {
    // YAML's message quotes the line, which may be the one with the password.
    throw fail(`${path} is no YAML: check it with another reader`)
  }
  const result = v.safeParse(File, raw ?? {})
  if (result.success) return result.output
  const [issue] = result.issues
  throw fail(
    `${path} is malformed at ${v.getDotPath(issue) ?? 'its root'}: expected ${issue.expected ?? 'another type'}`,
  )
}

/** What stands beside `auth` counts too; scalars only, the rest (caching, profiles of services) is other programs'. */
function settingsOf(cloud: v.InferOutput<typeof Cloud>): Settings {
  const { auth, ...beside } = cloud
  const settings: Settings = Object.fromEntries(
    Object.entries({ ...beside, ...auth }).flatMap(([key, value]): readonly (readonly [string, string | boolean])[] => {
      if (typeof value === 'boolean') return [[key, value]]
      return typeof value === 'string' || typeof value === 'number' ? [[key, String(value)]] : []
    }),
  )
  // With several regions the first is the default, as openstacksdk has it.
  const { regions } = beside
  const first: unknown = Array.isArray(regions) ? regions[0] : undefined
  return settings['region_name'] === undefined && typeof first === 'string'
    ? { ...settings, region_name: first }
    : settings
}

function find(options: CloudOptions, env: NonNullable<CloudOptions['env']>): string | undefined {
  const named = options.file ?? (env['OS_CLIENT_CONFIG_FILE'] || undefined)
  if (named !== undefined) return named
  const home = env['HOME'] ?? ''
  const config = env['XDG_CONFIG_HOME'] || (home === '' ? '' : join(home, '.config'))
  const folders = [
    options.cwd ?? process.cwd(),
    ...(config === '' ? [] : [join(config, 'openstack')]),
    '/etc/openstack',
  ]
  return folders
    .flatMap((folder) => [join(folder, 'clouds.yaml'), join(folder, 'clouds.yml')])
    .find((path) => existsSync(path))
}

function fromFile(path: string, wanted: string | undefined): CloudConfig {
  const clouds = readFile(path).clouds ?? {}
  const names = Object.keys(clouds)
  const name = wanted ?? (names.length === 1 ? names[0] : undefined)
  if (name === undefined) {
    throw fail(`${path} has ${names.length === 0 ? 'no cloud' : `the clouds ${names.join(', ')}`}: name one (OS_CLOUD)`)
  }
  const cloud = Object.hasOwn(clouds, name) ? clouds[name] : undefined
  if (cloud === undefined) throw fail(`${path} has no cloud "${name}": it has ${names.join(', ') || 'none'}`)
  const where = `cloud "${name}" of ${path}`
  if (typeof cloud['profile'] === 'string') {
    throw fail(`${where}: profile "${cloud['profile']}" is not supported: write auth_url and region_name out`)
  }
  const secure = join(dirname(path), 'secure.yaml')
  const hidden = existsSync(secure) ? (readFile(secure).clouds ?? {}) : {}
  const more = Object.hasOwn(hidden, name) ? hidden[name] : undefined
  return cloudConfig(name, { ...settingsOf(cloud), ...(more === undefined ? {} : settingsOf(more)) }, where)
}

/** Names of the environment that are not just the setting's in capitals with OS_ before it. */
const ELSEWHERE: { readonly [variable: string]: string } = {
  OS_USER_NAME: 'username',
  OS_DEFAULT_DOMAIN_ID: 'default_domain',
  OS_DEFAULT_DOMAIN: 'default_domain',
}

function fromEnvironment(env: NonNullable<CloudOptions['env']>): CloudConfig {
  const settings = Object.entries(env).flatMap(([variable, value]) =>
    variable.startsWith('OS_') && value !== undefined && value !== ''
      ? [[ELSEWHERE[variable] ?? variable.slice(3).toLowerCase(), value] as const]
      : [],
  )
  return cloudConfig('', Object.fromEntries(settings), 'the environment (OS_…)')
}

/**
 * The cloud to use: the one that is named (option, or `OS_CLOUD`) out of clouds.yaml with its secure.yaml; else what `OS_AUTH_URL` and the
 * variables beside it say; else the only cloud of clouds.yaml. Like `openstack --os-cloud NAME`.
 * @throws OpenStackError `config`
 */
export function loadCloud(options: CloudOptions = {}): CloudConfig {
  const env = options.env ?? process.env
  const wanted = options.cloud ?? (env['OS_CLOUD'] || undefined)
  const direct = wanted === undefined && options.file === undefined && (env['OS_AUTH_URL'] ?? '') !== ''
  if (direct) return fromEnvironment(env)
  const path = find(options, env)
  if (path === undefined) {
    throw fail('there is neither a clouds.yaml nor OS_AUTH_URL: write /etc/openstack/clouds.yaml, or name a file')
  }
  return fromFile(path, wanted)
}
