import { arrayAt, at, isObject, objectAt, textAt } from '../json.ts'
import type { Json, JsonObject } from '../json.ts'
import { AGE, NAME } from './columns.ts'
import { ageOf } from './duration.ts'
import { jsonPath } from './json-path.ts'
import type { ApiObject } from './object.ts'
import { timestamp } from './object.ts'
import type { Column, ResourceType } from './resource.ts'
import { shelfName } from './resource.ts'
import type { FieldError } from './status.ts'
import { invalidValue, required } from './validation.ts'

const strings = (values: readonly Json[]): string[] => values.filter((value) => typeof value === 'string')

/** Fills the names that a definition may leave out, and the conversion strategy. */
export function crdDefaults(crd: ApiObject): ApiObject {
  const spec = objectAt(crd, 'spec')
  const names = objectAt(spec, 'names')
  const kind = textAt(names, 'kind') ?? ''
  const completed = { singular: kind.toLowerCase(), listKind: `${kind}List`, ...names }
  return { ...crd, spec: { conversion: { strategy: 'None' }, ...spec, names: completed } }
}

function versionErrors(version: Json, field: string): FieldError[] {
  const errors: FieldError[] = []
  if ((textAt(version, 'name') ?? '') === '') errors.push(required(`${field}.name`))
  if (typeof at(version, 'served') !== 'boolean') errors.push(required(`${field}.served`))
  if (typeof at(version, 'storage') !== 'boolean') errors.push(required(`${field}.storage`))
  if (!isObject(at(version, 'schema', 'openAPIV3Schema'))) {
    errors.push(required(`${field}.schema.openAPIV3Schema`, 'schemas are required'))
  } else if (at(version, 'schema', 'openAPIV3Schema', 'type') !== 'object') {
    errors.push(required(`${field}.schema.openAPIV3Schema.type`, 'must not be empty at the root: must be object'))
  }
  for (const [index, column] of arrayAt(version, 'additionalPrinterColumns').entries()) {
    const path = textAt(column, 'jsonPath') ?? ''
    const where = `${field}.additionalPrinterColumns[${index}]`
    if ((textAt(column, 'name') ?? '') === '') errors.push(required(`${where}.name`))
    if (jsonPath(path) === undefined)
      errors.push(invalidValue(`${where}.jsonPath`, path, 'is no JSONPath that can be read here'))
  }
  return errors
}

/** Checks a CustomResourceDefinition as far as its kinds could not be served otherwise. */
export function validateCrd(
  crd: ApiObject,
  previous: ApiObject | undefined,
  taken: (group: string, plural: string) => boolean,
): FieldError[] {
  const errors: FieldError[] = []
  const group = textAt(crd, 'spec', 'group') ?? ''
  const plural = textAt(crd, 'spec', 'names', 'plural') ?? ''
  const scope = textAt(crd, 'spec', 'scope') ?? ''
  if (group === '') errors.push(required('spec.group'))
  else if (!group.includes('.'))
    errors.push(invalidValue('spec.group', group, 'should be a domain with at least one dot'))
  if (plural === '') errors.push(required('spec.names.plural'))
  if ((textAt(crd, 'spec', 'names', 'kind') ?? '') === '') errors.push(required('spec.names.kind'))
  if (scope !== 'Namespaced' && scope !== 'Cluster') {
    errors.push({
      field: 'spec.scope',
      reason: 'FieldValueNotSupported',
      message: `Unsupported value: ${JSON.stringify(scope)}: supported values: "Cluster", "Namespaced"`,
    })
  }
  if (crd.metadata.name !== `${plural}.${group}`) {
    errors.push(invalidValue('metadata.name', crd.metadata.name, `must be spec.names.plural+"."+spec.group`))
  }
  const versions = arrayAt(crd, 'spec', 'versions')
  if (versions.length === 0) errors.push(required('spec.versions'))
  for (const [index, version] of versions.entries()) errors.push(...versionErrors(version, `spec.versions[${index}]`))
  if (versions.length > 0 && versions.filter((version) => at(version, 'storage') === true).length !== 1) {
    errors.push(
      invalidValue('spec.versions', versions.length, 'must have exactly one version marked as storage version'),
    )
  }
  if (previous === undefined && taken(group, plural))
    errors.push(invalidValue('spec.names.plural', plural, 'is served already'))
  for (const field of ['group', 'scope'] as const) {
    const before = textAt(previous, 'spec', field)
    const now = textAt(crd, 'spec', field) ?? ''
    if (before !== undefined && before !== now) errors.push(invalidValue(`spec.${field}`, now, 'field is immutable'))
  }
  return errors
}

/** The status that makes a definition Established, with the names it was given. */
export function establishedStatus(crd: ApiObject, now: number): JsonObject {
  const before = objectAt(crd, 'status')
  const storage = arrayAt(crd, 'spec', 'versions').flatMap((version) =>
    at(version, 'storage') === true ? strings([at(version, 'name') ?? null]) : [],
  )
  const stored = [...new Set([...strings(arrayAt(before, 'storedVersions')), ...storage])]
  const condition = (type: string, reason: string, message: string): JsonObject =>
    [...arrayAt(before, 'conditions')].filter(isObject).find((item) => item['type'] === type) ?? {
      lastTransitionTime: timestamp(now),
      message,
      reason,
      status: 'True',
      type,
    }
  return {
    acceptedNames: objectAt(crd, 'spec', 'names'),
    conditions: [
      condition('NamesAccepted', 'NoConflicts', 'no conflicts found'),
      condition('Established', 'InitialNamesAccepted', 'the initial names have been accepted'),
    ],
    storedVersions: stored,
  }
}

function printerColumns(version: Json): readonly Column[] {
  const given = arrayAt(version, 'additionalPrinterColumns')
  if (given.length === 0) return [NAME, AGE]
  const columns = given.map((raw): Column => {
    const path = jsonPath(textAt(raw, 'jsonPath') ?? '') ?? (() => [])
    const type = textAt(raw, 'type')
    const date = type === 'date'
    const priority = at(raw, 'priority')
    return {
      name: textAt(raw, 'name') ?? '',
      type: type === 'integer' || type === 'number' || type === 'boolean' || type === 'date' ? type : 'string',
      ...(textAt(raw, 'description') === undefined ? {} : { description: textAt(raw, 'description') ?? '' }),
      ...(textAt(raw, 'format') === undefined ? {} : { format: textAt(raw, 'format') ?? '' }),
      priority: typeof priority === 'number' ? priority : 0,
      cell: (object, now) => {
        const [found = null] = path(object)
        if (date) return ageOf(typeof found === 'string' ? found : undefined, now)
        return found !== null && typeof found === 'object' ? JSON.stringify(found) : found
      },
    }
  })
  return [NAME, ...columns]
}

const selectable = (version: Json): { readonly [field: string]: readonly string[] } =>
  Object.fromEntries(
    arrayAt(version, 'selectableFields').flatMap((field) => {
      const path = (textAt(field, 'jsonPath') ?? '').replace(/^\./, '')
      return path === '' ? [] : [[path, path.split('.')] as const]
    }),
  )

/** The types that a definition serves, one per served version. */
export function typesOf(crd: ApiObject): readonly ResourceType[] {
  const spec = objectAt(crd, 'spec')
  const group = textAt(spec, 'group') ?? ''
  const names = objectAt(spec, 'names')
  const plural = textAt(names, 'plural') ?? ''
  const kind = textAt(names, 'kind') ?? ''
  return arrayAt(spec, 'versions').flatMap((version): ResourceType[] => {
    if (at(version, 'served') !== true) return []
    const name = textAt(version, 'name') ?? ''
    const schema = at(version, 'schema', 'openAPIV3Schema')
    const status = at(version, 'subresources', 'status') !== undefined
    const apiVersion = `${group}/${name}`
    const rename = (object: ApiObject): ApiObject =>
      object.apiVersion === apiVersion ? object : { ...object, apiVersion }
    return [
      {
        group,
        version: name,
        plural,
        kind,
        singular: textAt(names, 'singular') ?? kind.toLowerCase(),
        namespaced: textAt(spec, 'scope') !== 'Cluster',
        shortNames: strings(arrayAt(names, 'shortNames')),
        categories: strings(arrayAt(names, 'categories')),
        shelf: shelfName(group, plural),
        status,
        dropStatusOnCreate: status,
        generation: true,
        unconditionalUpdate: false,
        createOnUpdate: false,
        custom: true,
        labelNames: false,
        columns: printerColumns(version),
        fields: selectable(version),
        ...(isObject(schema) ? { schema } : {}),
        // Conversion strategy None: versions differ by their name alone.
        convert: { toStored: rename, fromStored: rename },
      },
    ]
  })
}
