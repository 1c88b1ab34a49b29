/** Metadata servers: plain HTTP on a link-local address, text answers. */

import type * as v from 'valibot'

import type { Clock } from '#sys/clock.ts'
import { Secret } from '#sys/secret.ts'
import { again } from './again.ts'
import type { CloudOptions, Keys } from './client.ts'
import { Credentials, type Lent } from './credentials.ts'
import { CloudError, foreign } from './errors.ts'
import { parseJson } from './json.ts'

export interface MetadataOptions extends Pick<CloudOptions, 'send' | 'clock' | 'random'> {
  readonly base: string
  readonly headers?: Readonly<Record<string, string>>
  /** Where a token for further questions is given out (PUT), with the header for its life and the one to show it in. */
  readonly session?: {
    readonly path: string
    readonly ttl: string
    readonly show: string
    readonly isOptional: boolean
  }
}

const TIMEOUT = 3_000
const SESSION_SECONDS = 3600
const MAX_VALUE = 16_384

export class Metadata {
  readonly #options: MetadataOptions
  readonly #session: Credentials<string>

  constructor(options: MetadataOptions) {
    this.#options = options
    this.#session = new Credentials(options.clock, async (signal) => ({
      value: await this.#startSession(signal),
      until: options.clock.wall() + SESSION_SECONDS * 1000,
    }))
  }

  /** One value. Throws CloudError `metadata`. */
  async text(path: string, signal: AbortSignal): Promise<string> {
    const { session, headers } = this.#options
    const ask = (more: Readonly<Record<string, string>>): Promise<string> =>
      this.#ask('GET', path, { ...headers, ...more }, signal)
    if (session === undefined) return ask({})
    return this.#session.use(signal, (token) => ask(token === '' ? {} : { [session.show]: token }))
  }

  /** One value that is a name (an instance, a region, a role): nothing that could change a URL. */
  async name(path: string, signal: AbortSignal): Promise<string> {
    const name = (await this.text(path, signal)).trim().split('\n')[0] ?? ''
    if (/^[\w.:/@+=,-]{1,256}$/.test(name) && !name.includes('..')) return name
    throw new CloudError('metadata', `metadata server: ${path} is ${JSON.stringify(foreign(name))}, which is no name`)
  }

  async json<S extends v.GenericSchema>(schema: S, path: string, signal: AbortSignal): Promise<v.InferOutput<S>> {
    return parseJson(schema, await this.text(path, signal), `metadata server: ${path}`, 'metadata')
  }

  async #startSession(signal: AbortSignal): Promise<string> {
    const { session, headers } = this.#options
    if (session === undefined) return ''
    try {
      return await this.#ask('PUT', session.path, { ...headers, [session.ttl]: String(SESSION_SECONDS) }, signal)
    } catch (error) {
      signal.throwIfAborted()
      if (session.isOptional && error instanceof CloudError && error.code === 'metadata') return ''
      throw error
    }
  }

  async #ask(
    method: 'GET' | 'PUT',
    path: string,
    headers: Readonly<Record<string, string>>,
    signal: AbortSignal,
  ): Promise<string> {
    const what = `metadata server: ${path}`
    const { base, send } = this.#options
    const { status, text } = await again(this.#options, signal, async () => {
      const answer = await send({ what, method, url: `${base}/${path}`, headers, timeoutMs: TIMEOUT }, signal)
      if (answer.status === 429 || answer.status >= 500)
        throw new CloudError('unavailable', `${what}: status ${answer.status}`, answer.retryAfterMs)
      return answer
    })
    // 401 says that the session is over.
    if (status === 401) throw new CloudError('credentials', `${what}: status 401`)
    if (status !== 200) throw new CloudError('metadata', `${what}: status ${status}`)
    if (text.length > MAX_VALUE) throw new CloudError('metadata', `${what}: ${text.length} characters`)
    return text
  }
}

/** Keys of a role as the metadata server gives them out; of static ones, those. */
export function keysOf(
  clock: Clock,
  keys: Keys | undefined,
  role: (signal: AbortSignal) => Promise<{ id: string; secret: string; token: string; until: number }>,
): Credentials<Keys> {
  return new Credentials(clock, async (signal): Promise<Lent<Keys>> => {
    if (keys !== undefined) return { value: keys, until: Infinity }
    const { id, secret, token, until } = await role(signal)
    if (Number.isNaN(until)) throw new CloudError('metadata', "metadata server: the role's keys have no readable end")
    const bytes = (text: string): Secret => new Secret(Buffer.from(text))
    return { value: { id, secret: bytes(secret), token: bytes(token) }, until }
  })
}
