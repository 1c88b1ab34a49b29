import { KubeError } from './errors.ts'
import type { KubeObject, Resource } from './resource.ts'

/** Query parameters; undefined ones are left out. */
export type Query = { readonly [key: string]: string | number | boolean | undefined }

/** One segment of a path. Names come from remote data: one that would change the path is refused. */
function segment(text: string): string {
  if (text === '' || text === '.' || text === '..' || text.includes('/')) {
    throw new KubeError('bad-request', `${JSON.stringify(text)} is no name of an object or namespace`)
  }
  return encodeURIComponent(text)
}

/**
 * The path of a kind, of the kind in a namespace, or of an object.
 * @throws KubeError `bad-request` for names that are none.
 */
export function resourcePath<T extends KubeObject>(
  resource: Resource<T>,
  namespace?: string,
  name?: string,
  subresource?: string,
): string {
  const root = resource.group === '' ? `/api/${resource.version}` : `/apis/${resource.group}/${resource.version}`
  const inside = resource.namespaced && namespace !== undefined ? `/namespaces/${segment(namespace)}` : ''
  const object = name === undefined ? '' : `/${segment(name)}`
  return `${root}${inside}/${resource.plural}${object}${subresource === undefined ? '' : `/${subresource}`}`
}

/** A path with a query. */
export function withQuery(path: string, query: Query): string {
  const parameters = new URLSearchParams()
  for (const [key, value] of Object.entries(query)) if (value !== undefined) parameters.set(key, String(value))
  const text = parameters.toString()
  return text === '' ? path : `${path}?${text}`
}
