import { isRecord, sees, type Answer, type Ask, type Context } from './context.ts'
import { badInput, neutron, noSuchPath, notFound } from './failure.ts'
import type { Base } from './model.ts'

/** `/v2.0/TYPE/ID/tags…` */
export function tags(context: Context, ask: Ask): Answer {
  const { cloud } = context
  const [type = '', id = '', , tag] = ask.path
  const all: { readonly [type: string]: readonly [ReadonlyMap<string, Base>, Parameters<typeof notFound>[0]] } = {
    ports: [cloud.ports, 'Port'],
    networks: [cloud.networks, 'Network'],
    subnets: [cloud.subnets, 'Subnet'],
    routers: [cloud.routers, 'Router'],
    floatingips: [cloud.floating, 'FloatingIP'],
  }
  const [objects, kind] = all[type] ?? []
  const object = objects?.get(id)
  if (kind === undefined) throw noSuchPath()
  if (object === undefined || !sees(ask.caller, object)) throw notFound(kind, id)
  const set = (list: readonly string[]): void => {
    object.tags = [...new Set(list)].toSorted()
    object.revision += 1
  }
  switch (`${ask.method} ${tag === undefined ? 'all' : 'one'}`) {
    case 'GET all':
      return { status: 200, body: { tags: object.tags } }
    case 'PUT all': {
      const list: unknown = isRecord(ask.body) ? ask.body['tags'] : undefined
      if (!Array.isArray(list) || !list.every((one) => typeof one === 'string')) throw badInput('Invalid tags body')
      if (list.some((one) => one.length > 60)) throw badInput('Invalid input for tags: longer than 60 characters')
      set(list)
      return { status: 200, body: { tags: list } }
    }
    case 'PUT one':
      set([...object.tags, tag ?? ''])
      return { status: 201, body: null }
    case 'GET one':
    case 'DELETE one':
      if (!object.tags.includes(tag ?? '')) throw neutron(404, 'TagNotFound', `Tag ${tag ?? ''} could not be found.`)
      if (ask.method === 'DELETE') set(object.tags.filter((one) => one !== tag))
      return { status: 204 }
    case 'DELETE all':
      set([])
      return { status: 204 }
    default:
      throw noSuchPath()
  }
}
