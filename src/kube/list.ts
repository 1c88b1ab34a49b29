import type { KubeClient, ListOptions } from './client.ts'
import { KubeError } from './errors.ts'
import type { KubeObject, Resource, Stored } from './resource.ts'

/** All objects of a kind at one version. */
export interface Listed<S> {
  readonly items: readonly S[]
  readonly resourceVersion: string
}

/**
 * Objects per page. client-go asks for 500; Nodes are large (5 kB and more), and with 100 a list of 5,000 of them takes
 * as long and leaves the process less than half as much larger (38 MB instead of 84 MB, docs/design/0002).
 */
export const PAGE = 100
/** How often a list begins anew when its continue token expires on the way. */
const MAX_RESTARTS = 3

/**
 * Lists a kind page by page and keeps of each object what `keep` answers (undefined: nothing), so that no more than one
 * page is ever held whole. When the first page's state is no longer known (410 on the way), the list begins anew.
 * @throws KubeError
 */
export async function listAll<T extends KubeObject, S>(
  client: KubeClient,
  resource: Resource<T>,
  keep: (object: Stored<T>) => S | undefined,
  options: Omit<ListOptions, 'continue'> = {},
): Promise<Listed<S>> {
  for (let restart = 0; ; restart += 1) {
    const items: S[] = []
    let next: string | undefined
    let resourceVersion = ''
    try {
      do {
        const { resourceVersion: from, resourceVersionMatch: match, ...rest } = options
        const first = {
          ...(from === undefined ? {} : { resourceVersion: from }),
          ...(match === undefined ? {} : { resourceVersionMatch: match }),
        }
        const page = await client.list(resource, {
          limit: PAGE,
          ...rest,
          ...(next === undefined ? first : { continue: next }),
        })
        for (const object of page.items) {
          const kept = keep(object)
          if (kept !== undefined) items.push(kept)
        }
        if (next !== undefined && next === page.continue) {
          throw new KubeError('bad-response', 'the list goes in a circle: a page continues with itself', {
            object: `LIST ${resource.plural}`,
          })
        }
        next = page.continue
        resourceVersion = page.resourceVersion
      } while (next !== undefined)
      return { items, resourceVersion }
    } catch (error) {
      const expired = error instanceof KubeError && error.code === 'gone' && next !== undefined
      if (!expired || restart >= MAX_RESTARTS) throw error
    }
  }
}
