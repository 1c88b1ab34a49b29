import * as v from 'valibot'

import type { Call, OpenStackClient } from './client.ts'
import { OpenStackError } from './errors.ts'

/** Objects per page. */
const PAGE = 500
/** More objects than this are no answer: 1,000 nodes with 250 pods each, as ports. */
const MOST = 250_000

const Links = v.optional(v.array(v.object({ rel: v.string() })), [])

/**
 * All objects of a list, page by page. The link to the next page is only believed in that there is one: where it leads is our own request
 * with a marker, so that no answer sends the token elsewhere.
 *
 * @param key under which the list stands (`ports`), its links under `ports_links`
 * @throws OpenStackError
 */
export async function listAll<T extends { readonly id: string }>(
  client: OpenStackClient,
  call: Omit<Call, 'method'>,
  key: string,
  item: v.GenericSchema<unknown, T>,
  pageSize = PAGE,
): Promise<readonly T[]> {
  const schema = v.looseObject({ [key]: v.array(item), [`${key}_links`]: Links })
  const found = new Map<string, T>()
  for (let marker: string | undefined; ;) {
    const query = { ...call.query, limit: pageSize, ...(marker === undefined ? {} : { marker }) }
    const page = await client.call({ ...call, method: 'GET', query }, schema)
    const items = v.parse(v.array(item), page[key])
    const links = v.parse(Links, page[`${key}_links`])
    const before = found.size
    for (const one of items) found.set(one.id, one)
    const last = items.at(-1)
    if (last === undefined || !links.some(({ rel }) => rel === 'next')) return [...found.values()]
    if (found.size === before || found.size > MOST) {
      const why = found.size > MOST ? `more than ${MOST} objects` : 'pages that repeat themselves'
      throw new OpenStackError('bad-response', `the list has ${why}`, { object: call.object })
    }
    marker = last.id
  }
}
