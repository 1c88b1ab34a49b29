/**
 * What this node publishes about itself: annotations, and that its network is available. Patches only what differs, on the status
 * subresource only, and tries until the Node says what it should.
 */

import { annotationPatch, ownAnnotations, type AnnotationKeys, type Annotations } from '#flannel/annotations.ts'
import type { Backend } from '#flannel/backend/backend.ts'
import { localFamilies, type Local } from '#flannel/local.ts'
import { CONF_REFUSED, type NodeView } from '#flannel/node-view.ts'
import { errorFields, type Log } from './log.ts'

/** The two requests it makes; both patch `nodes/status`. Rejections are retried. */
export interface NodeStatusApi {
  /** Strategic merge patch of a Node's status subresource. */
  patchStatus(node: string, patch: NodeStatusPatch, signal: AbortSignal): Promise<void>
}

export interface NodeStatusPatch {
  readonly metadata?: { readonly annotations: Readonly<Record<string, string>> }
  readonly status?: { readonly conditions: readonly NodeCondition[] }
}

export interface NodeCondition {
  readonly type: string
  readonly status: string
  readonly reason: string
  readonly message: string
  readonly lastTransitionTime: string
  readonly lastHeartbeatTime: string
}

export interface OwnNodeOptions {
  readonly node: string
  readonly api: NodeStatusApi
  readonly keys: AnnotationKeys
  readonly log: Log
  /** Clear the condition NetworkUnavailable; off where another network sets it. */
  readonly setNetworkUnavailable: boolean
  readonly onPatch: (outcome: 'done' | 'failed') => void
  readonly random?: () => number
}

/** Longer words are not kept of a Node either. */
const MAX_MESSAGE = 250
const FIRST_RETRY = 500
const LONGEST_RETRY = 30_000

export class OwnNode implements AsyncDisposable {
  readonly #options: OwnNodeOptions
  readonly #abort = new AbortController()
  #wanted: Annotations | undefined
  #present: NodeView | undefined
  /** Why a changed network configuration is not used. */
  #refusal: string | undefined
  #timer: NodeJS.Timeout | undefined
  #running: Promise<void> | undefined
  #attempts = 0

  constructor(options: OwnNodeOptions) {
    this.#options = options
  }

  /** The data path is up: this is what peers should know. */
  publish(local: Local, backend: Backend): void {
    const families = Object.fromEntries(
      localFamilies(local).flatMap((family) => {
        const own = local[family]
        return own === undefined ? [] : [[family, { publicIp: own.publicIp, data: backend.published(local, family) }]]
      }),
    )
    this.#wanted = ownAnnotations(backend.type, families)
    this.#kick(0)
  }

  /** A changed network configuration is not used, or all is well again. */
  tell(trouble: string | undefined): void {
    const said = trouble === undefined ? undefined : trouble.slice(0, MAX_MESSAGE)
    if (said === this.#refusal) return
    this.#refusal = said
    this.#kick(0)
  }

  /** The Node as the API server has it now. */
  seen(view: NodeView): void {
    this.#present = view
    if (this.#due() === undefined) this.#attempts = 0
    // A change by somebody else is answered at the pace of the retries, so that nobody fights at full speed.
    else this.#kick(this.#delay())
  }

  /** True when the Node says all that it should. */
  get isPublished(): boolean {
    return this.#wanted !== undefined && this.#present !== undefined && this.#due() === undefined
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#abort.abort()
    clearTimeout(this.#timer)
    await this.#running
  }

  #due(): NodeStatusPatch | undefined {
    const { keys, setNetworkUnavailable } = this.#options
    if (this.#wanted === undefined || this.#present === undefined) return undefined
    const annotations = annotationPatch(this.#wanted, this.#present.annotations, keys)
    const conditions = [
      ...(setNetworkUnavailable && this.#present.networkUnavailable !== 'False' ? [available()] : []),
      ...(this.#present.confRefused === this.#refusal ? [] : [refused(this.#refusal)]),
    ]
    if (annotations === undefined && conditions.length === 0) return undefined
    return {
      ...(annotations === undefined ? {} : { metadata: { annotations } }),
      ...(conditions.length === 0 ? {} : { status: { conditions } }),
    }
  }

  #delay(): number {
    const { random = Math.random } = this.#options
    const delay =
      this.#attempts === 0 ? 0 : Math.min(LONGEST_RETRY, FIRST_RETRY * 2 ** Math.min(this.#attempts - 1, 10))
    return delay * (0.75 + random() / 2)
  }

  #kick(ms: number): void {
    if (this.#abort.signal.aborted || this.#running !== undefined) return
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => {
      this.#running = this.#patch().finally(() => {
        this.#running = undefined
        // Until the watch shows what was written, or it failed: look again.
        if (this.#due() !== undefined) this.#kick(this.#delay())
      })
    }, ms)
  }

  async #patch(): Promise<void> {
    const { node, api, log, onPatch } = this.#options
    const patch = this.#due()
    if (patch === undefined) return
    this.#attempts++
    try {
      await api.patchStatus(node, patch, this.#abort.signal)
      onPatch('done')
      log.info(
        { node, annotations: patch.metadata?.annotations, condition: patch.status?.conditions[0]?.reason },
        'published on our Node',
      )
    } catch (error) {
      if (this.#abort.signal.aborted) return
      onPatch('failed')
      log.warn({ node, attempt: this.#attempts, ...errorFields(error) }, 'our Node could not be patched; trying again')
    }
  }
}

function refused(why: string | undefined): NodeCondition {
  const now = new Date().toISOString().replace(/\.\d+Z$/, 'Z')
  return {
    type: CONF_REFUSED,
    status: why === undefined ? 'False' : 'True',
    reason: why === undefined ? 'ConfigurationIsUsed' : 'ConfigurationCannotBeUsed',
    message: why ?? 'The network configuration is the one in use',
    lastTransitionTime: now,
    lastHeartbeatTime: now,
  }
}

/** Source: flannel's pkg/subnet/kube; the node controller removes the taint network-unavailable when it sees this. */
function available(): NodeCondition {
  const now = new Date().toISOString().replace(/\.\d+Z$/, 'Z')
  return {
    type: 'NetworkUnavailable',
    status: 'False',
    reason: 'FlannelIsUp',
    message: 'Flannel is running on this node',
    lastTransitionTime: now,
    lastHeartbeatTime: now,
  }
}
