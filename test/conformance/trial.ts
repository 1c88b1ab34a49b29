/** What a running case has at hand: a machine of its own, the plugins under test, and pods to attach. */

import type { JsonObject } from '#cni/json.ts'
import { call, Failed, type Answer, type Environment, type Verb } from './call.ts'
import type { Machine } from './machine.ts'
import { Pod, type PodOptions, type RequestOptions } from './pod.ts'
import { Baseline } from './state.ts'
import type { Subject } from './subject.ts'
import type { Target } from './target.ts'

export interface CallRequest {
  readonly conf: JsonObject
  readonly prevResult?: JsonObject | null
  readonly env?: Environment
  /** The executable; the configuration's type without it. */
  readonly file?: string
  readonly stdin?: string
  readonly killAfterMs?: number
  readonly deadlineMs?: number
}

export class Trial {
  readonly machine: Machine
  readonly target: Target
  /** The newest version that every plugin of the case claims. */
  readonly version: string
  /** Every version that they claim, oldest first. */
  readonly versions: readonly string[]
  /** Whether each ADD is followed by a kill this often in the crash cases. */
  readonly kills: number
  readonly #prepared = new Set<string>()
  #pods = 0

  constructor(machine: Machine, target: Target, versions: readonly string[], kills: number) {
    this.machine = machine
    this.target = target
    this.versions = versions
    this.version = versions.at(-1) ?? '1.1.0'
    this.kills = kills
  }

  /** Starts a plugin with the environment that a runtime would give, changed by `env`. */
  call(verb: Verb, request: CallRequest): Promise<Answer> {
    const { conf, prevResult, env = {} } = request
    const { type } = conf
    const file = request.file ?? (typeof type === 'string' ? type : '')
    const document = prevResult === undefined ? conf : { ...conf, prevResult }
    return call(this.machine, this.target.directory, {
      file,
      env: { CNI_COMMAND: verb, CNI_PATH: this.target.directory, CNI_ARGS: '', ...env },
      stdin: request.stdin ?? JSON.stringify(document),
      ...(request.killAfterMs === undefined ? {} : { killAfterMs: request.killAfterMs }),
      ...(request.deadlineMs === undefined ? {} : { deadlineMs: request.deadlineMs }),
    })
  }

  /** A pod that is ready for the subject's ADD. */
  async pod(subject: Subject, options: PodOptions = {}): Promise<Pod> {
    if (!this.#prepared.has(subject.type)) {
      this.#prepared.add(subject.type)
      await subject.prepare?.(this)
    }
    const netns = options.netns ?? (await this.machine.pod())
    const n = ++this.#pods
    const pod = new Pod(this, subject.conf(n), n, netns, options)
    pod.before = await subject.before?.(this, pod)
    return pod
  }

  /** A pod for a configuration of the case's own. */
  async podOf(conf: JsonObject, options: PodOptions = {}): Promise<Pod> {
    const netns = options.netns ?? (await this.machine.pod())
    return new Pod(this, conf, ++this.#pods, netns, options)
  }

  /**
   * A pod to try something with, and the machine's state before it: after one ADD and DEL of another pod have made what is shared by all
   * attachments and stays (a bridge, tables, folders). What comes after it and stays is this pod's.
   */
  async second(subject: Subject, options: PodOptions = {}): Promise<readonly [pod: Pod, before: Baseline]> {
    const netns = options.netns ?? (await this.machine.pod())
    const before = await this.afterFirst(subject)
    return [await this.pod(subject, { ...options, netns }), before]
  }

  /** The machine's state after one ADD and DEL. */
  async afterFirst(subject: Subject): Promise<Baseline> {
    const first = await this.pod(subject)
    await first.add()
    await first.del({}, 'of the first attachment')
    await this.unplug(subject, first)
    return Baseline.of(this.machine)
  }

  /** Removes what was there before the plugin: for a chained one, what the main plugin's DEL would. */
  async unplug(subject: Subject, pod: Pod): Promise<void> {
    await subject.after?.(this, pod)
  }

  /** The same pod, ready for another ADD. */
  async replug(subject: Subject, pod: Pod): Promise<void> {
    await this.unplug(subject, pod)
    pod.before = await subject.before?.(this, pod)
  }

  /** An ADD that must fail. After the DEL that a runtime makes then, which may fail too, the machine is as before. */
  async refusedAdd(subject: Subject, pod: Pod, options: RequestOptions, before: Baseline, why = ''): Promise<void> {
    await pod.refused('ADD', options, [], why)
    await pod.request('DEL', options)
    await this.unplug(subject, pod)
    await this.unchanged(before, 'after the refused ADD and its DEL')
  }

  /** An ADD that must fail, and undo all of itself at once. */
  async undoneAdd(subject: Subject, pod: Pod, options: RequestOptions, before: Baseline, why = ''): Promise<void> {
    await pod.refused('ADD', options, [], why)
    await this.hasDevice(subject, pod)
    await this.unplug(subject, pod)
    await this.unchanged(before, 'after the refused ADD')
  }

  /** Throws Failed where a device that was lent to the pod is not on the host again. */
  async hasDevice(subject: Subject, pod: Pod): Promise<void> {
    const name = subject.device?.(pod.n)
    if (name === undefined) return
    const { code } = await this.machine.run(['ip', 'link', 'show', name])
    if (code !== 0) throw new Failed(`${name} is not on the host again`)
  }

  /** Throws Failed where an attachment that a DEL or GC has ended left something, beside what a main plugin's DEL would remove. */
  async leftNothing(subject: Subject, pod: Pod, before: Baseline, after: string): Promise<void> {
    if (!subject.keepsState) return
    await this.unplug(subject, pod)
    await this.unchanged(before, after)
  }

  /** Throws Failed where something is not as it was. */
  async unchanged(baseline: Baseline, after: string): Promise<void> {
    const changes = await baseline.changes()
    if (changes.length > 0)
      throw new Failed(`${after} the machine is not as before: ${changes.slice(0, 4).join(' | ')}`)
  }
}

/** Throws Failed unless the condition holds. */
export function demand(condition: boolean, otherwise: string): asserts condition {
  if (!condition) throw new Failed(otherwise)
}
