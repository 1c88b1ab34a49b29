import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { inspect } from 'node:util'

import fc from 'fast-check'

import { errorOfAnswer } from './answer-error.ts'
import { endpointOf } from './catalog.ts'
import { loadCloud } from './clouds-file.ts'
import { cloudConfig } from './config.ts'
import { OpenStackError } from './errors.ts'
import { authBody } from './identity/auth-body.ts'
import { chooseVersion, parseMicroversion } from './nova/microversion.ts'
import { parseRetryAfter, waitBefore } from './retry.ts'

let dir = ''
before(() => {
  dir = mkdtempSync(join(tmpdir(), 'hdlm-config-'))
})
after(() => rmSync(dir, { recursive: true, force: true }))

const file = (name: string, text: string): string => {
  const path = join(dir, name)
  writeFileSync(path, text)
  return path
}

describe('clouds.yaml', () => {
  const text = `clouds:
  k8s:
    auth: {auth_url: "https://keystone:5000", username: u, project_name: p, user_domain_name: D, project_domain_id: pd}
    region_name: R
    interface: internal
    network_endpoint_override: http://neutron:9696
  other:
    auth_type: v3applicationcredential
    auth: {auth_url: "http://k/identity/v3/", application_credential_id: id, application_credential_secret: 5}
    regions: [first, second]
    verify: false
`
  it('joins secure.yaml, and reads domains, region, interface and overrides', () => {
    const path = file('clouds.yaml', text)
    file('secure.yaml', 'clouds: {k8s: {auth: {password: hush}}}')
    const config = loadCloud({ file: path, cloud: 'k8s', env: {} })
    assert.equal(config.authUrl.href, 'https://keystone:5000/v3')
    assert.deepEqual(
      [config.region, config.interface, config.endpoints.network?.host],
      ['R', 'internal', 'neutron:9696'],
    )
    assert.deepEqual(authBody(config.credential), {
      auth: {
        identity: {
          methods: ['password'],
          password: { user: { name: 'u', domain: { name: 'D' }, password: 'hush' } },
        },
        scope: { project: { name: 'p', domain: { id: 'pd' } } },
      },
    })
    assert.ok(!inspect(config, { depth: 9, showHidden: true }).includes('hush'))
    assert.ok(!JSON.stringify(config).includes('hush'))
  })
  it('an application credential has no scope; numbers are text; the first region counts', () => {
    const config = loadCloud({ file: file('two.yaml', text), env: { OS_CLOUD: 'other' } })
    assert.equal(config.authUrl.href, 'http://k/identity/v3')
    assert.equal(config.region, 'first')
    assert.equal(config.tls().rejectUnauthorized, false)
    const application_credential = { id: 'id', secret: '5' }
    const identity = { methods: ['application_credential'], application_credential }
    assert.deepEqual(authBody(config.credential), { auth: { identity } })
  })
  it('the environment counts where no cloud is named', () => {
    const env = {
      OS_AUTH_URL: 'http://k:5000/v3',
      OS_USERNAME: 'u',
      OS_PASSWORD: 'x',
      OS_PROJECT_ID: 'p',
      OS_INSECURE: 'true',
    }
    const config = loadCloud({ env, cwd: dir })
    assert.deepEqual(config.credential.kind === 'password' && config.credential.project, { id: 'p' })
    assert.equal(config.tls().rejectUnauthorized, false)
  })
  const auth = 'auth_url: http://k, username: u, password: hush'
  const bad: readonly (readonly [string, string, RegExp])[] = [
    ['several clouds and none named', text, /has the clouds k8s, other: name one/],
    [
      'a missing project',
      `clouds: {a: {auth: {${auth}}}}`,
      /cloud "a" of .*: project_name \(or project_id\) is missing/,
    ],
    [
      'an unknown auth_type',
      `clouds: {a: {auth_type: v3oidc, auth: {${auth}}}}`,
      /auth_type "v3oidc" is not supported: use/,
    ],
    ['a profile', `clouds: {a: {profile: x, auth: {${auth}}}}`, /profile "x" is not supported/],
    [
      'version 2',
      `clouds: {a: {auth: {auth_url: "http://k/v2.0", username: u, password: hush, project_name: p}}}`,
      /use \/v3/,
    ],
    [
      'a password in the URL',
      `clouds: {a: {auth: {auth_url: "http://u:hush@k", username: u, password: hush, project_name: p}}}`,
      /holds a user or password/,
    ],
    ['an interface that is none', `clouds: {a: {interface: x, auth: {${auth}, project_name: p}}}`, /none of public/],
    [
      'a CA that is not there',
      `clouds: {a: {cacert: /nowhere/ca, auth: {${auth}, project_name: p}}}`,
      /cacert \/nowhere\/ca cannot be read/,
    ],
    ['no YAML', 'clouds: [hush', /is no YAML/],
    ['another form', 'clouds: 5', /malformed at clouds/],
  ]
  for (const [name, content, words] of bad) {
    it(`${name} is told, without the password`, () => {
      const sub = mkdtempSync(join(dir, 'bad-'))
      writeFileSync(join(sub, 'clouds.yaml'), content)
      try {
        loadCloud({ file: join(sub, 'clouds.yaml'), env: {} })
        assert.fail('it was taken')
      } catch (error) {
        assert.ok(error instanceof OpenStackError && error.code === 'config', inspect(error))
        assert.match(error.message, words)
        assert.ok(!error.message.includes('hush'))
      }
    })
  }
  it('nothing at all is told', () => {
    assert.throws(
      () => loadCloud({ env: { HOME: dir }, cwd: join(dir, 'empty') }),
      /neither a clouds.yaml nor OS_AUTH_URL/,
    )
  })
})

describe('catalog', () => {
  const at = (service: string, region: string, face: string, url: string) => ({ service, region, interface: face, url })
  const catalog = [
    at('network', 'A', 'public', 'http://a:9696'),
    at('network', 'B', 'publicURL', 'http://b/network/v2.0/'),
  ]
  const of = (region: string | undefined, face: 'public' | 'admin' = 'public') =>
    endpointOf({ region, interface: face, endpoints: {} }, catalog, 'network').href
  it('by region and interface, with the version', () => {
    assert.deepEqual([of('A'), of('B')], ['http://a:9696/v2.0/', 'http://b/network/v2.0/'])
  })
  it('what is not there is told with what is', () => {
    assert.throws(() => of('C'), /not in region "C"; its regions are A, B/)
    assert.throws(() => of(undefined), /in several regions \(A, B\): set region_name/)
    assert.throws(() => of('A', 'admin'), /no interface "admin"; there are public/)
    const none = () => endpointOf({ region: 'A', interface: 'public', endpoints: {} }, catalog, 'compute')
    assert.throws(none, /no service of type compute; there are network/)
  })
})

describe('errors, waits and versions', () => {
  const forms: readonly (readonly [number, unknown, string])[] = [
    [400, { NeutronError: { type: 'RoutesExhausted', message: 'm', detail: '' } }, 'over-quota'],
    [409, { NeutronError: { type: 'OverQuota', message: 'm', detail: '' } }, 'over-quota'],
    [403, { forbidden: { code: 403, message: 'Quota exceeded for instances' } }, 'over-quota'],
    [413, { overLimit: { code: 413, message: 'slow down' } }, 'throttled'],
    [429, 'Too many', 'throttled'],
    [401, { error: { code: 401, title: 'Unauthorized', message: 'm' } }, 'unauthorized'],
    [404, { itemNotFound: { code: 404, message: 'm' } }, 'not-found'],
    [503, '<html><h1>503</h1></html>', 'unavailable'],
    [500, { NeutronError: 'text' }, 'server'],
    [302, '', 'bad-response'],
  ]
  for (const [status, body, code] of forms) {
    it(`${status} ${JSON.stringify(body)} is ${code}`, () => {
      const text = typeof body === 'string' ? body : JSON.stringify(body)
      assert.equal(errorOfAnswer(status, text, 'x', undefined).code, code)
    })
  }
  it('any body makes an error with a short message', () => {
    fc.assert(
      fc.property(fc.integer({ min: 300, max: 599 }), fc.oneof(fc.string(), fc.json()), (status, text) => {
        assert.ok(errorOfAnswer(status, text, 'x', undefined).message.length < 900)
      }),
    )
  })
  it('waits grow, are spread, and heed Retry-After', () => {
    const error = (ms?: number) => new OpenStackError('throttled', 'm', { retryAfterMs: ms })
    const options = { attempts: 9, baseMs: 100, capMs: 300 }
    const waits = [1, 2, 3].map((n) => waitBefore(n, error(), false, () => 0.5, options))
    assert.deepEqual(waits, [100, 200, 300])
    assert.equal(
      waitBefore(1, error(), false, () => 0, options),
      50,
    )
    assert.equal(
      waitBefore(1, error(7_000), false, () => 0, options),
      7_000,
    )
    assert.equal(
      waitBefore(1, error(70_000), false, () => 0, options),
      undefined,
    )
    assert.equal(
      waitBefore(9, error(), false, () => 0, options),
      undefined,
    )
  })
  it('Retry-After is seconds or a date', () => {
    const now = Date.UTC(2026, 0, 1)
    assert.equal(parseRetryAfter('7', now), 7_000)
    assert.equal(parseRetryAfter('Thu, 01 Jan 2026 00:00:09 GMT', now), 9_000)
    for (const text of [undefined, '-1', 'soon', '1e9', '9'.repeat(40)])
      assert.equal(parseRetryAfter(text, now), undefined)
  })
  it('the newest microversion that both know', () => {
    const range = (a: string, b: string) => {
      const [minimum, maximum] = [parseMicroversion(a), parseMicroversion(b)]
      assert.ok(minimum !== undefined && maximum !== undefined)
      return { minimum, maximum }
    }
    assert.deepEqual(chooseVersion(range('2.1', '2.49'), range('2.1', '2.93'), 'Nova'), { major: 2, minor: 49 })
    assert.deepEqual(chooseVersion(range('2.1', '2.49'), range('2.1', '2.9'), 'Nova'), { major: 2, minor: 9 })
    assert.throws(() => chooseVersion(range('2.1', '2.49'), range('2.60', '2.93'), 'Nova'), /2\.1 to 2\.49 is needed/)
  })
  it('settings without a URL are told', () => {
    assert.throws(() => cloudConfig('', {}, 'here'), /here: auth_url is missing/)
  })
})
