/** One attachment in the hands of the suite: what a runtime knows about it. */

import type { JsonObject } from '#cni/json.ts'
import { codeOf, Failed, outcome, type Answer, type Environment, type Verb } from './call.ts'
import { resultIn, type ReadResult } from './shape.ts'
import type { Trial } from './trial.ts'

export interface PodOptions {
  readonly containerId?: string
  readonly ifname?: string
  readonly network?: string
  /** Another attachment of the same container: its namespace. */
  readonly netns?: string
}

export interface RequestOptions {
  readonly version?: string
  /** Added to the configuration. */
  readonly conf?: JsonObject
  readonly env?: Environment
  /** Instead of what a runtime would pass; undefined leaves it out. */
  readonly prevResult?: JsonObject | null | undefined
  readonly killAfterMs?: number
  readonly deadlineMs?: number
}

export class Pod {
  readonly #trial: Trial
  readonly conf: JsonObject
  readonly n: number
  readonly containerId: string
  readonly ifname: string
  readonly network: string
  readonly netns: string
  /** What an earlier plugin of the chain left. */
  before: ReadResult | undefined
  /** What ADD answered. */
  result: JsonObject | undefined

  constructor(trial: Trial, conf: JsonObject, n: number, netns: string, options: PodOptions) {
    this.#trial = trial
    this.conf = conf
    this.n = n
    this.netns = netns
    this.containerId = options.containerId ?? `container-${n}`
    this.ifname = options.ifname ?? 'eth0'
    this.network = options.network ?? 'net1'
  }

  get environment(): Readonly<Record<string, string>> {
    return { CNI_CONTAINERID: this.containerId, CNI_NETNS: this.netns, CNI_IFNAME: this.ifname }
  }

  /** What a runtime passes on: to ADD what the plugin before left, to the others the result of ADD. */
  #previous(verb: Verb, version: string): JsonObject | undefined {
    if (version === '0.1.0' || version === '0.2.0') return undefined
    if (verb === 'ADD') return this.before === undefined ? undefined : resultIn(version, this.before)
    if (verb !== 'CHECK' && verb !== 'DEL') return undefined
    if (this.result !== undefined) return this.result
    return this.before === undefined ? undefined : resultIn(version, this.before)
  }

  /** Makes a call, whatever comes of it. */
  request(verb: Verb, options: RequestOptions = {}): Promise<Answer> {
    const version = options.version ?? this.#trial.version
    const prevResult = 'prevResult' in options ? options.prevResult : this.#previous(verb, version)
    return this.#trial.call(verb, {
      conf: { cniVersion: version, name: this.network, ...this.conf, ...options.conf },
      ...(prevResult === undefined ? {} : { prevResult }),
      env: { ...this.environment, ...options.env },
      ...(options.killAfterMs === undefined ? {} : { killAfterMs: options.killAfterMs }),
      ...(options.deadlineMs === undefined ? {} : { deadlineMs: options.deadlineMs }),
    })
  }

  /** ADD that must succeed; the result. */
  async add(options: RequestOptions = {}): Promise<JsonObject> {
    const answer = await this.request('ADD', options)
    if (answer.code !== 0) throw new Failed(`ADD failed: ${outcome(answer)}`)
    if (answer.document === undefined) throw new Failed('ADD succeeded and printed no result')
    this.result = answer.document
    return answer.document
  }

  /** DEL that must succeed without a word. */
  async del(options: RequestOptions = {}, why = ''): Promise<void> {
    await this.#quiet('DEL', options, why)
    this.result = undefined
  }

  async check(options: RequestOptions = {}, why = ''): Promise<void> {
    await this.#quiet('CHECK', options, why)
  }

  async status(options: RequestOptions = {}, why = ''): Promise<void> {
    await this.#quiet('STATUS', options, why)
  }

  /** GC that keeps these attachments. */
  async gc(valid: readonly Pod[], options: RequestOptions = {}, why = ''): Promise<void> {
    const list = valid.map(({ containerId, ifname }) => ({ containerID: containerId, ifname }))
    await this.#quiet('GC', { ...options, conf: { ...options.conf, 'cni.dev/valid-attachments': list } }, why)
  }

  async #quiet(verb: Verb, options: RequestOptions, why: string): Promise<void> {
    const answer = await this.request(verb, options)
    const when = why === '' ? '' : ` ${why}`
    if (answer.code !== 0) throw new Failed(`${verb}${when} failed: ${outcome(answer)}`)
    if (answer.document !== undefined) throw new Failed(`${verb}${when} succeeded and printed ${answer.stdout.trim()}`)
  }

  /** A call that must fail, with one of these codes if any are given. */
  async refused(verb: Verb, options: RequestOptions = {}, codes: readonly number[] = [], why = ''): Promise<Answer> {
    const answer = await this.request(verb, options)
    const when = why === '' ? '' : ` ${why}`
    if (answer.code === 0) throw new Failed(`${verb}${when} succeeded`)
    if (codes.length > 0 && !codes.includes(codeOf(answer))) {
      throw new Failed(`${verb}${when}: wanted code ${codes.join(' or ')}, got ${outcome(answer)}`)
    }
    return answer
  }
}
