import type { Json, JsonObject } from '../json.ts'
import type { ApiObject } from './object.ts'
import type { ResourceType } from './resource.ts'

/** How much of each object a Table row carries. */
export type IncludeObject = 'None' | 'Metadata' | 'Object'

/** The column definitions of a type. */
export function columnDefinitions(type: ResourceType): readonly JsonObject[] {
  return type.columns.map((column) => ({
    name: column.name,
    type: column.type,
    format: column.format ?? '',
    description: column.description ?? '',
    priority: column.priority ?? 0,
  }))
}

/** The metadata of an object as an object of its own. */
export const partial = (object: ApiObject): JsonObject => ({
  kind: 'PartialObjectMetadata',
  apiVersion: 'meta.k8s.io/v1',
  metadata: object.metadata,
})

function rowObject(object: ApiObject, include: IncludeObject): JsonObject {
  if (include === 'None') return {}
  return { object: include === 'Object' ? object : partial(object) }
}

/** Objects as a `meta.k8s.io` Table: what `kubectl get` prints. */
export function table(
  type: ResourceType,
  objects: readonly ApiObject[],
  metadata: JsonObject,
  options: { readonly include: IncludeObject; readonly version: string; readonly now: number },
): JsonObject {
  const rows = objects.map((object): JsonObject => {
    // Events are stored as v1 whatever they are served as, and so are their columns.
    const source = type.convert === undefined ? object : type.convert.toStored(object)
    const cells: Json = type.columns.map((column) => column.cell(source, options.now))
    return { cells, ...rowObject(object, options.include) }
  })
  return {
    kind: 'Table',
    apiVersion: `meta.k8s.io/${options.version}`,
    metadata,
    columnDefinitions: columnDefinitions(type),
    rows,
  }
}
