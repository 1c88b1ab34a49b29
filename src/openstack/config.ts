/** How to reach a cloud, and as whom: what clouds.yaml and the environment come down to. */

import { readFileSync } from 'node:fs'

import { Secret } from '#sys/secret.ts'
import { OpenStackError } from './errors.ts'
import type { TlsMaterial } from './transport.ts'

/** A domain, user or project: by id, or by a name within its domain. */
export type Named =
  | { readonly id: string }
  | { readonly name: string; readonly domain: { readonly id: string } | { readonly name: string } }

/** How Keystone is convinced. An application credential brings its own project. */
export type Credential =
  | { readonly kind: 'password'; readonly user: Named; readonly password: Secret; readonly project: Named }
  | {
      readonly kind: 'application-credential'
      /** By name it needs its user. */
      readonly credential: { readonly id: string } | { readonly name: string; readonly user: Named }
      readonly secret: Secret
    }
  | { readonly kind: 'token'; readonly token: Secret; readonly project: Named | undefined }

export type Interface = 'public' | 'internal' | 'admin'
export type ServiceType = 'network' | 'compute' | 'identity'

export interface CloudConfig {
  /** Of clouds.yaml; empty where it comes from the environment. */
  readonly name: string
  /** Keystone's URL; ends with `/v3`. */
  readonly authUrl: URL
  readonly credential: Credential
  /** Undefined: the cloud has one region. */
  readonly region: string | undefined
  readonly interface: Interface
  /** URLs instead of those of the catalog (`network_endpoint_override`). */
  readonly endpoints: { readonly [service in ServiceType]?: URL }
  /** Read for each request: certificates are rotated. */
  readonly tls: () => TlsMaterial
}

/** Settings in one flat form; the names are those of clouds.yaml, the environment's are translated into them. */
export interface Settings {
  readonly [name: string]: string | boolean | undefined
}

/** Where settings came from, for messages: `cloud "k8s" of /etc/openstack/clouds.yaml`. */
type Where = string

const fail = (where: Where, message: string): OpenStackError => new OpenStackError('config', `${where}: ${message}`)

const textOf = (settings: Settings, ...names: readonly string[]): string | undefined => {
  for (const name of names) {
    const value = settings[name]
    if (typeof value === 'string' && value !== '') return value
  }
  return undefined
}

function needed(settings: Settings, where: Where, ...names: readonly string[]): string {
  const value = textOf(settings, ...names)
  if (value === undefined) throw fail(where, `${names[0]} is missing: add it`)
  return value
}

const secretOf = (text: string): Secret => new Secret(Buffer.from(text, 'utf8'))

function named(settings: Settings, what: 'user' | 'project'): Named | undefined {
  const legacy = what === 'project' ? ['tenant_id'] : []
  const id = textOf(settings, `${what}_id`, ...legacy)
  if (id !== undefined) return { id }
  const name = textOf(
    settings,
    what === 'user' ? 'username' : 'project_name',
    ...(what === 'user' ? [] : ['tenant_name']),
  )
  if (name === undefined) return undefined
  const domainId = textOf(settings, `${what}_domain_id`, 'domain_id')
  if (domainId !== undefined) return { name, domain: { id: domainId } }
  const domainName = textOf(settings, `${what}_domain_name`, 'domain_name')
  // Keystone's first domain has the id "default" in every cloud, whatever its name.
  return {
    name,
    domain: domainName === undefined ? { id: textOf(settings, 'default_domain') ?? 'default' } : { name: domainName },
  }
}

function required(value: Named | undefined, where: Where, names: string): Named {
  if (value === undefined) throw fail(where, `${names} is missing: add one of them`)
  return value
}

/** auth_type as the field spells it; left out, it follows from what is there. */
function kindOf(settings: Settings, where: Where): Credential['kind'] {
  const type = textOf(settings, 'auth_type')
  switch (type?.toLowerCase()) {
    case undefined:
      if (textOf(settings, 'application_credential_secret') !== undefined) return 'application-credential'
      return textOf(settings, 'password') === undefined && textOf(settings, 'token') !== undefined
        ? 'token'
        : 'password'
    case 'password':
    case 'v3password':
      return 'password'
    case 'v3applicationcredential':
      return 'application-credential'
    case 'token':
    case 'v3token':
      return 'token'
    default:
      throw fail(where, `auth_type "${type}" is not supported: use v3applicationcredential, password or v3token`)
  }
}

function credentialOf(settings: Settings, where: Where): Credential {
  switch (kindOf(settings, where)) {
    case 'password':
      return {
        kind: 'password',
        user: required(named(settings, 'user'), where, 'username (or user_id)'),
        password: secretOf(needed(settings, where, 'password')),
        project: required(named(settings, 'project'), where, 'project_name (or project_id)'),
      }
    case 'application-credential': {
      const id = textOf(settings, 'application_credential_id')
      const name = textOf(settings, 'application_credential_name')
      if (id === undefined && name === undefined) throw fail(where, 'application_credential_id is missing: add it')
      return {
        kind: 'application-credential',
        credential:
          id === undefined
            ? { name: name ?? '', user: required(named(settings, 'user'), where, 'username (or user_id)') }
            : { id },
        secret: secretOf(needed(settings, where, 'application_credential_secret')),
      }
    }
    default:
      return { kind: 'token', token: secretOf(needed(settings, where, 'token')), project: named(settings, 'project') }
  }
}

function urlOf(text: string, where: Where, name: string): URL {
  const url = URL.parse(text)
  if (url === null || (url.protocol !== 'http:' && url.protocol !== 'https:')) {
    // The URL may hold a password: it is not shown.
    throw fail(where, `${name} is no http or https URL`)
  }
  if (url.username !== '' || url.password !== '') throw fail(where, `${name} holds a user or password: remove it`)
  return url
}

/** Keystone's URL with its version: operators write it with and without. */
function authUrlOf(text: string, where: Where): URL {
  const url = urlOf(text, where, 'auth_url')
  const path = url.pathname.replace(/\/+$/, '')
  if (path.endsWith('/v2.0'))
    throw fail(where, 'auth_url names version 2.0 of the identity API, which is gone: use /v3')
  url.pathname = path.endsWith('/v3') ? path : `${path}/v3`
  return url
}

function interfaceOf(settings: Settings, where: Where): Interface {
  const text = (textOf(settings, 'interface', 'endpoint_type') ?? 'public').replace(/URL$/, '')
  if (text === 'public' || text === 'internal' || text === 'admin') return text
  throw fail(where, `interface "${text}" is none of public, internal, admin`)
}

function verifies(settings: Settings): boolean {
  const { verify, insecure } = settings
  const says = (value: string | boolean | undefined): boolean | undefined =>
    value === undefined || value === '' ? undefined : value === true || /^(1|true|yes|on)$/i.test(String(value))
  return says(verify) ?? !(says(insecure) ?? false)
}

function tlsOf(settings: Settings, where: Where): () => TlsMaterial {
  const read = (name: string): string | undefined => {
    const file = textOf(settings, name)
    if (file === undefined) return undefined
    try {
      return readFileSync(file, 'utf8')
    } catch (cause) {
      throw new OpenStackError('config', `${where}: ${name} ${file} cannot be read`, { cause })
    }
  }
  const rejectUnauthorized = verifies(settings)
  if ((textOf(settings, 'cert') === undefined) !== (textOf(settings, 'key') === undefined)) {
    throw fail(where, 'cert and key go together: one of them is missing')
  }
  return () => {
    const [ca, cert, key] = [read('cacert'), read('cert'), read('key')]
    return {
      rejectUnauthorized,
      ...(ca === undefined ? {} : { ca }),
      ...(cert === undefined ? {} : { cert }),
      ...(key === undefined ? {} : { key }),
    }
  }
}

/**
 * The configuration that settings describe.
 * @throws OpenStackError `config`, naming where, which setting, and what to do; no secret is shown
 */
export function cloudConfig(name: string, settings: Settings, where: Where): CloudConfig {
  const version = textOf(settings, 'identity_api_version')
  if (version !== undefined && !/^3(\.|$)/.test(version)) {
    throw fail(where, `identity_api_version "${version}" is gone: version 3 is spoken`)
  }
  const override = (service: ServiceType): { readonly [key: string]: URL } => {
    const key = `${service}_endpoint_override`
    const text = textOf(settings, key)
    return text === undefined ? {} : { [service]: urlOf(text, where, key) }
  }
  const tls = tlsOf(settings, where)
  // A file that cannot be read is told now, not at the first request.
  tls()
  return {
    name,
    authUrl: authUrlOf(needed(settings, where, 'auth_url'), where),
    credential: credentialOf(settings, where),
    region: textOf(settings, 'region_name'),
    interface: interfaceOf(settings, where),
    endpoints: { ...override('network'), ...override('compute'), ...override('identity') },
    tls,
  }
}
