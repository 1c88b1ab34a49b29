/** Requests to the cloud of a controller that leads: nothing is changed once another may be leading. */

import { OpenStackError } from '#openstack/errors.ts'
import type { HttpAnswer, HttpRequest, HttpSender } from '#openstack/transport.ts'
import type { Term } from '#kube/lease-lock.ts'

/** What a change has to be answered in beyond the term: others wait for longer than that before they begin (ms). */
const GRACE = 2_000

/**
 * The cloud knows nothing of leaders, so a change is not sent when the term is over: a process that was stopped for a minute finds that out here,
 * before it does any harm. What is under way when the term ends is given up.
 */
export class FencedSender implements HttpSender {
  readonly #sender: HttpSender
  readonly #term: Term

  constructor(sender: HttpSender, term: Term) {
    this.#sender = sender
    this.#term = term
  }

  async send(request: HttpRequest): Promise<HttpAnswer> {
    if (request.method === 'GET' || request.url.pathname.endsWith('/auth/tokens')) return this.#sender.send(request)
    const left = this.#term.left()
    const { object } = request
    if (left <= 0) throw new OpenStackError('aborted', 'this controller leads no more', { object })
    const over = AbortSignal.timeout(Math.ceil(left + GRACE))
    return this.#sender.send({ ...request, signal: AbortSignal.any([request.signal, over]) })
  }

  [Symbol.dispose](): void {
    this.#sender[Symbol.dispose]()
  }
}
