/** Google's metadata server and the routes of Compute Engine's API. */

import { CloudServer, told, type Asked, type Told } from './cloud-server.ts'

const API = '/compute/v1/projects/proj'
const VERSIONED = 'https://www.googleapis.com/compute/v1'
export const GCE_NETWORK = 'projects/proj/global/networks/pods'
export const gceInstance = (name: string): string => `projects/proj/zones/z-1/instances/${name}`

interface Pending {
  polls: number
  readonly error?: string
}

export class GceServer extends CloudServer {
  canIpForward = true
  /** Looks at an operation before it is done. */
  polls = 0
  readonly #operations = new Map<string, Pending>()
  readonly #requests = new Map<string, string>()

  protected metadata({ path, headers }: Asked, instance: string): Told | undefined {
    const base = '/computeMetadata/v1/'
    if (!path.startsWith(base)) return undefined
    if (headers['metadata-flavor'] !== 'Google') return told('', 403)
    switch (path.slice(base.length)) {
      case 'project/project-id':
        return told('proj')
      case 'instance/name':
        return told(instance)
      case 'instance/zone':
        return told('projects/123/zones/z-1')
      case 'instance/network-interfaces/0/network':
        return told('projects/123/networks/pods')
      case 'instance/service-accounts/default/token':
        return told({ access_token: `token-${this.generation}`, expires_in: 3599, token_type: 'Bearer' })
      default:
        return told('', 404)
    }
  }

  protected actionOf({ method, path }: Asked): string {
    return `${method} ${path.replace(API, '').replace(/\/operations\/.*/, '/operations')}`
  }

  protected api({ method, path, headers, query, body }: Asked): Told {
    const fail = (status: number, reason: string): Told =>
      told({ error: { code: status, message: `no: ${reason}`, errors: [{ reason }] } }, status)
    if (headers.authorization !== `Bearer token-${this.generation}`) return fail(401, 'authError')
    const rest = path.slice(API.length)
    if (rest.startsWith('/zones/')) return told({ canIpForward: this.canIpForward })
    if (rest.startsWith('/global/operations/')) return this.#poll(rest.slice('/global/operations/'.length))
    const known = this.#requests.get(query.get('requestId') ?? '')
    if (known !== undefined) return this.#poll(known)
    if (rest === '/global/routes' && method === 'GET') return this.#list(query)
    if (rest === '/global/routes' && method === 'POST') {
      const { name, destRange, nextHopInstance, description } = JSON.parse(body) as Record<string, string>
      if (this.routes.some((route) => route.name === name)) return fail(409, 'alreadyExists')
      const route = {
        name: name ?? '',
        destination: destRange ?? '',
        nextHop: nextHopInstance ?? '',
        description: description ?? '',
      }
      return this.#start(query, this.add(route) === 'full' ? 'QUOTA_EXCEEDED' : undefined)
    }
    const name = decodeURIComponent(rest.slice('/global/routes/'.length))
    if (method === 'DELETE')
      return this.drop((route) => route.name === name) ? this.#start(query) : fail(404, 'notFound')
    return fail(400, 'invalid')
  }

  #start(query: URLSearchParams, error?: string): Told {
    const name = `operation-${this.#operations.size + 1}`
    this.#operations.set(name, { polls: this.polls, ...(error === undefined ? {} : { error }) })
    this.#requests.set(query.get('requestId') ?? '', name)
    return this.#poll(name)
  }

  #poll(name: string): Told {
    const operation = this.#operations.get(name)
    if (operation === undefined) return told({}, 404)
    if (operation.polls-- > 0) return told({ name, status: 'RUNNING' })
    const { error } = operation
    return told({
      name,
      status: 'DONE',
      ...(error === undefined ? {} : { error: { errors: [{ code: error, message: 'no' }] } }),
    })
  }

  #list(query: URLSearchParams): Told {
    const wanted = [...(query.get('filter') ?? '').matchAll(/"([^"]+)"/g)].map(([, value]) => value)
    const found = this.listed().filter(
      ({ destination, nextHop }) =>
        wanted.length === 0 || wanted.includes(destination) || wanted.includes(`${VERSIONED}/${nextHop}`),
    )
    const from = Number(query.get('pageToken') ?? 0)
    const next = from + this.page
    return told({
      items: found.slice(from, next).map((route) => ({
        name: route.name,
        description: route.description,
        network: `${VERSIONED}/${GCE_NETWORK}`,
        destRange: route.destination,
        priority: 1000,
        ...(route.isForeign === true ? { nextHopGateway: 'g' } : { nextHopInstance: `${VERSIONED}/${route.nextHop}` }),
        ...(route.isDead === true ? { warnings: [{ code: 'NEXT_HOP_INSTANCE_NOT_FOUND' }] } : {}),
      })),
      ...(next < found.length ? { nextPageToken: String(next) } : {}),
    })
  }
}
