/** Keystone's part: tokens. */

import { randomBytes } from 'node:crypto'

import * as v from 'valibot'

import type { Answer, Context } from './context.ts'
import { keystone, unauthorized } from './failure.ts'
import type { Caller, FakeUser } from './model.ts'

const Domain = v.optional(v.object({ id: v.optional(v.string()), name: v.optional(v.string()) }))
const Reference = v.object({ id: v.optional(v.string()), name: v.optional(v.string()), domain: Domain })
const Body = v.object({
  auth: v.object({
    identity: v.object({
      methods: v.array(v.string()),
      password: v.optional(v.object({ user: v.object({ ...Reference.entries, password: v.string() }) })),
      application_credential: v.optional(
        v.object({
          id: v.optional(v.string()),
          name: v.optional(v.string()),
          user: v.optional(Reference),
          secret: v.string(),
        }),
      ),
      token: v.optional(v.object({ id: v.string() })),
    }),
    scope: v.optional(v.object({ project: Reference })),
  }),
})

interface Given {
  readonly caller: Caller
  readonly user: FakeUser
  readonly until: number
}

export class Identity {
  readonly #context: Context
  readonly #tokens = new Map<string, Given>()
  /** How many tokens were given. */
  given = 0

  constructor(context: Context) {
    this.#context = context
  }

  /** Who bears a token. @throws Failure 401 */
  callerOf(token: string): Caller {
    const given = this.#tokens.get(token)
    if (given === undefined || given.until <= this.#context.clock.wall()) throw unauthorized()
    return given.caller
  }

  /** Ends all tokens, as a rotation of keys does. */
  revokeAll(): void {
    this.#tokens.clear()
  }

  #user(body: v.InferOutput<typeof Body>): { readonly user: FakeUser; readonly until?: number } {
    const { cloud, clock } = this.#context
    const { methods, password, application_credential: application, token } = body.auth.identity
    const find = (reference: v.InferOutput<typeof Reference> | undefined): FakeUser | undefined =>
      [...cloud.users.values()].find(({ id, name }) => id === reference?.id || name === reference?.name)
    if (methods.includes('password') && password !== undefined) {
      const user = find(password.user)
      if (user !== undefined && user.password === password.user.password) return { user }
    }
    if (methods.includes('application_credential') && application !== undefined) {
      const owner = find(application.user)
      const found = [...cloud.credentials.values()].find(
        ({ id, name, user }) => id === application.id || (name === application.name && user === owner?.id),
      )
      const user = cloud.users.get(found?.user ?? '')
      if (user !== undefined && found?.secret === application.secret) return { user }
    }
    if (methods.includes('token') && token !== undefined) {
      const old = this.#tokens.get(token.id)
      if (old !== undefined && old.until > clock.wall()) return { user: old.user, until: old.until }
    }
    throw unauthorized()
  }

  /** `POST /v3/auth/tokens` */
  authenticate(raw: unknown): Answer {
    const { cloud, clock, options, base } = this.#context
    const parsed = v.safeParse(Body, raw)
    if (!parsed.success) {
      const path = v.getDotPath(parsed.issues[0]) ?? 'auth'
      throw keystone(400, 'Bad Request', `Expecting to find ${path} in request. The server could not comply with the request since it is either malformed or otherwise incorrect.`) // prettier-ignore
    }
    const { user, until } = this.#user(parsed.output)
    const scope = parsed.output.auth.scope?.project
    const project = cloud.projects.get(user.project)
    if (scope !== undefined && scope.id !== project?.id && scope.name !== project?.name) throw unauthorized()
    const now = clock.wall()
    const end = until ?? now + (options.tokenMs ?? 3_600_000)
    const token = `gAAAAA${randomBytes(66).toString('base64url')}`
    this.#tokens.set(token, { caller: { project: user.project, admin: user.admin }, user, until: end })
    this.given += 1
    const iso = (ms: number): string => new Date(ms).toISOString().replace('Z', '000Z')
    const endpoint = (type: string, name: string, url: string): object => ({
      type,
      name,
      endpoints: ['public', 'internal', 'admin'].map((one) => ({
        interface: one,
        region: 'RegionOne',
        region_id: 'RegionOne',
        url,
      })),
    })
    const catalog = [
      endpoint('identity', 'keystone', `${base()}/v3`),
      endpoint('network', 'neutron', base()),
      endpoint('compute', 'nova', `${base()}/v2.1/${user.project}`),
    ]
    const body = {
      methods: parsed.output.auth.identity.methods,
      user: { id: user.id, name: user.name, domain: { id: 'default', name: 'Default' } },
      project: { id: project?.id, name: project?.name, domain: { id: 'default', name: 'Default' } },
      roles: [{ name: user.admin ? 'admin' : 'member' }],
      issued_at: iso(now),
      expires_at: iso(end),
      catalog,
    }
    return { status: 201, body: { token: body }, headers: { 'X-Subject-Token': token } }
  }
}
