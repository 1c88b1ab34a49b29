/** What can go wrong between a node and the API of its cloud. */

/**
 * `metadata`: this machine is no instance of that cloud, or its metadata server is silent; `credentials`: none, wrong or expired ones;
 * `permission`: they may not do this; `throttled`: too many requests; `limit`: the route table is full; `conflict`: somebody else's route is in
 * the way; `exists` and `not-found`: the table is other than it was a moment ago; `forwarding`: the instance may not carry foreign packets;
 * `unavailable`: no answer, or a server's error; `bad-answer`: an answer that the API's documentation knows nothing of; `refused`: anything else.
 */
export type CloudErrorCode =
  | 'metadata'
  | 'credentials'
  | 'permission'
  | 'throttled'
  | 'limit'
  | 'conflict'
  | 'exists'
  | 'not-found'
  | 'forwarding'
  | 'unavailable'
  | 'bad-answer'
  | 'refused'

const REMEDIES: Readonly<Record<CloudErrorCode, string>> = {
  metadata: 'check that this node is an instance of that cloud and that its metadata server is on and reachable',
  credentials:
    "give the instance a role (or a service account), or AccessKeyID and AccessKeySecret in the agent's environment",
  permission: 'let the role read and write routes (docs/configuration.md lists the permissions)',
  throttled: 'nothing to do: it is tried again, more slowly',
  limit: 'raise the quota of routes of this route table, or remove routes that nobody needs',
  conflict: 'remove that route, or give the node another podCIDR',
  exists: 'nothing to do: the table is read again',
  'not-found': 'nothing to do: the table is read again',
  forwarding: 'let the instance forward packets (canIpForward; source/destination check off)',
  unavailable: 'check the way from this node to the API; it is tried again',
  'bad-answer': 'check that nothing between this node and the API answers in its place',
  refused: "look the code up in the API's documentation",
}

/** Says which request was refused, with the cloud's own code. Holds no key and no signature. */
export class CloudError extends Error {
  override readonly name = 'CloudError'
  readonly code: CloudErrorCode
  /** So long (ms) the API wants to be left alone. */
  readonly retryAfterMs: number | undefined

  constructor(code: CloudErrorCode, message: string, retryAfterMs?: number) {
    super(`${message}; ${REMEDIES[code]}`)
    this.code = code
    this.retryAfterMs = retryAfterMs
  }
}

/** Is it worth asking the same again? */
export const isPassing = (error: unknown): error is CloudError =>
  error instanceof CloudError && (error.code === 'throttled' || error.code === 'unavailable')

/** Foreign text for a message: one line, without control characters, at most 200 characters. */
export const foreign = (text: string): string =>
  text
    .slice(0, 1000)
    .replaceAll(/[\p{C}\s]+/gu, ' ')
    .trim()
    .slice(0, 200)
