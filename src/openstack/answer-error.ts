/** From an answer that is no success to a typed error: each service has a form of its own for the body. */

import * as v from 'valibot'

import { OpenStackError, type OpenStackErrorCode } from './errors.ts'

/** Longer messages of a service are cut: they end up in logs and CNI answers. */
const MESSAGE_CHARS = 400

const NeutronForm = v.object({ NeutronError: v.object({ type: v.string(), message: v.string() }) })
/** Neutron's front (pecan) answers 500s it did not foresee so. */
const NeutronText = v.object({ NeutronError: v.string() })
/** Keystone, and the token check that stands before Neutron and Nova. */
const KeystoneForm = v.object({ error: v.object({ title: v.optional(v.string(), ''), message: v.string() }) })
/** Nova: one key, which names the error. */
const NovaForm = v.record(v.string(), v.object({ message: v.string() }))

interface Said {
  readonly type: string
  readonly message: string
}

/** What the body says: the service's name of the error and its message. */
export function readErrorBody(text: string): Said {
  let body: unknown
  try {
    body = JSON.parse(text)
  } catch {
    // A proxy's HTML page: its tags help nobody.
    return {
      type: '',
      message: text
        .replaceAll(/<[^>]*>/g, ' ')
        .replaceAll(/\s+/g, ' ')
        .trim(),
    }
  }
  const neutron = v.safeParse(NeutronForm, body)
  if (neutron.success) return neutron.output.NeutronError
  const plain = v.safeParse(NeutronText, body)
  if (plain.success) return { type: '', message: plain.output.NeutronError }
  const keystone = v.safeParse(KeystoneForm, body)
  if (keystone.success) return { type: keystone.output.error.title, message: keystone.output.error.message }
  const nova = v.safeParse(NovaForm, body)
  const entry = nova.success ? Object.entries(nova.output)[0] : undefined
  if (entry !== undefined) return { type: entry[0], message: entry[1].message }
  return { type: '', message: '' }
}

/** Types that mean the same whatever the status: Neutron's names moved between 400, 404, 409 and 503 over the years. */
const BY_TYPE: { readonly [type: string]: OpenStackErrorCode } = {
  IpAddressAlreadyAllocated: 'address-in-use',
  IpAddressInUse: 'address-in-use',
  FixedIpAlreadyInUse: 'address-in-use',
  IpAddressGenerationFailure: 'subnet-full',
  IpAddressGenerationFailureNoMatchingSubnet: 'subnet-full',
  IpAddressGenerationFailureAllSubnets: 'subnet-full',
  OverQuota: 'over-quota',
  QuotaExceeded: 'over-quota',
  RoutesExhausted: 'over-quota',
  AllowedAddressPairExhausted: 'over-quota',
  overLimit: 'over-quota',
  RevisionNumberConstraintFailed: 'precondition',
  ServiceUnavailable: 'unavailable',
}

function codeOf(status: number, { type, message }: Said): OpenStackErrorCode {
  // Nova has one name for a quota (403) and for a rate limit (413, 429).
  if (status === 429 || (status === 413 && type === 'overLimit')) return 'throttled'
  const known = Object.hasOwn(BY_TYPE, type) ? BY_TYPE[type] : undefined
  if (known !== undefined) return known
  switch (status) {
    case 401:
      return 'unauthorized'
    case 403:
      return /quota exceeded/i.test(message) ? 'over-quota' : 'forbidden'
    case 404:
    case 410:
      return 'not-found'
    case 408:
    case 504:
      return 'timeout'
    case 409:
      return /quota exceeded/i.test(message) ? 'over-quota' : 'conflict'
    case 412:
      return 'precondition'
    case 502:
    case 503:
      return 'unavailable'
    default:
      if (status >= 500) return 'server'
      return status >= 400 ? 'bad-request' : 'bad-response'
  }
}

/** Codes whose cause may have struck after the work was done: a proxy lost patience, or an answer could not be written. */
const PERHAPS_DONE: readonly OpenStackErrorCode[] = ['timeout', 'server', 'unavailable']

/** The error for an answer outside 200–299. `object` says what was asked. */
export function errorOfAnswer(
  status: number,
  text: string,
  object: string,
  retryAfterMs: number | undefined,
): OpenStackError {
  const said = readErrorBody(text)
  const code = codeOf(status, said)
  const name = `HTTP ${status}${said.type === '' ? '' : ` ${said.type}`}`
  const redirect = status >= 300 && status < 400 ? 'redirects are not followed: name the URL it leads to' : ''
  const message = said.message === '' ? redirect : said.message.slice(0, MESSAGE_CHARS)
  return new OpenStackError(code, message === '' ? name : `${message} [${name}]`, {
    status,
    type: said.type,
    object,
    retryAfterMs,
    perhapsDone: PERHAPS_DONE.includes(code),
  })
}
