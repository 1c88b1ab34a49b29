/** Errors as the services send them: each in a form of its own, with their types and words. */

export class Failure extends Error {
  readonly status: number
  readonly body: object

  constructor(status: number, body: object) {
    super(`HTTP ${status} ${JSON.stringify(body)}`)
    this.name = 'Failure'
    this.status = status
    this.body = body
  }
}

/** Neutron's. */
export const neutron = (status: number, type: string, message: string): Failure =>
  new Failure(status, { NeutronError: { type, message, detail: '' } })

export const internal = (): Failure =>
  neutron(500, 'HTTPInternalServerError', 'Request Failed: internal server error while processing your request.')

/** Without a type of its own. */
export const badInput = (message: string): Failure => neutron(400, 'HTTPBadRequest', message)

export const noSuchPath = (): Failure => neutron(404, 'HTTPNotFound', 'The resource could not be found.')

/** Of something of a kind: `Port X could not be found.` (routers and floating IPs are said without the full stop) */
export function notFound(kind: 'Network' | 'Subnet' | 'Port' | 'Router' | 'FloatingIP', id: string): Failure {
  if (kind === 'Router') return neutron(404, 'RouterNotFound', `Router ${id} could not be found`)
  if (kind === 'FloatingIP') return neutron(404, 'FloatingIPNotFound', `Floating IP ${id} could not be found`)
  return neutron(404, `${kind}NotFound`, `${kind} ${id} could not be found.`)
}

export const overQuota = (resource: string): Failure =>
  neutron(409, 'OverQuota', `Quota exceeded for resources: ['${resource}'].`)

/** Keystone's, and that of the token check before the other services. */
export const keystone = (code: number, title: string, message: string): Failure =>
  new Failure(code, { error: { code, message, title } })

export const unauthorized = (): Failure =>
  keystone(401, 'Unauthorized', 'The request you have made requires authentication.')

/** Nova's. */
export const nova = (code: number, type: string, message: string): Failure =>
  new Failure(code, { [type]: { code, message } })
