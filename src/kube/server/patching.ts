import { isObject } from '../json.ts'
import type { Json, JsonObject } from '../json.ts'
import type { ApiObject } from './object.ts'
import { timestamp } from './object.ts'
import { applyConfig, ApplyError } from './patch/apply.ts'
import type { Applied, Manager } from './patch/apply.ts'
import { printPath } from './patch/field-set.ts'
import { JsonPatchError, jsonPatch } from './patch/json.ts'
import { listRulesOf, listRulesOfSchema } from './patch/list-rules.ts'
import type { ListRules } from './patch/list-rules.ts'
import { mergePatch } from './patch/merge.ts'
import { StrategicPatchError, strategicPatch } from './patch/strategic.ts'
import type { WriteOptions } from './prepare.ts'
import type { ResourceType } from './resource.ts'
import { groupVersion } from './resource.ts'
import { ApiError, badRequest, invalid, unsupportedMediaType } from './status.ts'

/** The media types of patches. */
export const PATCH = {
  json: 'application/json-patch+json',
  merge: 'application/merge-patch+json',
  strategic: 'application/strategic-merge-patch+json',
  apply: 'application/apply-patch+yaml',
} as const

const compiled = new WeakMap<ResourceType, ListRules>()

/** How patches tell the list items of a type apart. */
export function rulesOf(type: ResourceType): ListRules {
  const known = compiled.get(type)
  if (known !== undefined) return known
  const rules = type.custom && type.schema !== undefined ? listRulesOfSchema(type.schema) : listRulesOf(type.kind)
  compiled.set(type, rules)
  return rules
}

function objectBody(patch: Json): JsonObject {
  if (!isObject(patch)) throw badRequest('the patch must be a JSON object')
  return patch
}

function jsonPatched(type: ResourceType, name: string, target: ApiObject, patch: Json): Json {
  try {
    return jsonPatch(target, patch)
  } catch (error) {
    if (!(error instanceof JsonPatchError)) throw error
    if (error.code === 'malformed') throw badRequest(error.message)
    if (error.code === 'too-large') throw new ApiError(413, 'RequestEntityTooLarge', error.message)
    throw invalid(type.kind, type.group, name, [
      {
        field: 'patch',
        reason: 'FieldValueInvalid',
        message: `Invalid value: the server rejected our request due to an error in our request: ${error.message}`,
      },
    ])
  }
}

/**
 * The object that a patch makes of another.
 * @throws ApiError 400, 413, 415 (no strategic merge for custom resources) or 422.
 */
export function patched(type: ResourceType, target: ApiObject, mediaType: string, patch: Json): Json {
  switch (mediaType) {
    case PATCH.json:
      return jsonPatched(type, target.metadata.name, target, patch)
    case PATCH.merge:
      return mergePatch(target, objectBody(patch))
    case PATCH.strategic:
      if (type.custom) break
      try {
        return strategicPatch(target, objectBody(patch), rulesOf(type))
      } catch (error) {
        if (error instanceof StrategicPatchError) throw badRequest(error.message)
        throw error
      }
    default:
  }
  const { strategic, ...others } = PATCH
  throw unsupportedMediaType(mediaType, Object.values(type.custom ? others : { strategic, ...others }))
}

function attempt(apply: () => Applied): Applied {
  try {
    return apply()
  } catch (error) {
    if (error instanceof ApplyError) throw badRequest(error.message)
    throw error
  }
}

/** The identity of a writer in managedFields. */
export function writer(
  type: ResourceType,
  subresource: string,
  options: WriteOptions,
  now: number,
): Omit<Manager, 'fields' | 'operation'> {
  return { name: options.fieldManager ?? 'unknown', subresource, apiVersion: groupVersion(type), time: timestamp(now) }
}

/**
 * Server-side apply of a configuration to the live object (undefined: there is none).
 * @throws ApiError 409 with one cause per field that another manager owns.
 */
export function applied(
  type: ResourceType,
  live: ApiObject | undefined,
  config: JsonObject,
  subresource: string,
  options: WriteOptions,
  now: number,
): { readonly object: JsonObject; readonly managers: readonly Manager[] } {
  if ((options.fieldManager ?? '') === '') {
    throw invalid('PatchOptions', 'meta.k8s.io', '', [
      { field: 'fieldManager', reason: 'FieldValueRequired', message: 'Required value: is required for apply patch' },
    ])
  }
  const by = writer(type, subresource, options, now)
  const result = attempt(() => applyConfig(live, config, by, rulesOf(type), options.force === true))
  if (result.ok) return result
  const texts = result.conflicts.map(({ manager, path }) => ({
    message: `conflict with "${manager.name}"${manager.operation === 'Update' ? ` using ${manager.apiVersion}` : ''}`,
    field: printPath(path),
  }))
  const count = texts.length === 1 ? '1 conflict' : `${texts.length} conflicts`
  const list =
    texts.length === 1
      ? ` ${texts[0]?.message}: ${texts[0]?.field}`
      : `\n${texts.map((t) => `${t.message}: ${t.field}`).join('\n')}`
  throw new ApiError(409, 'Conflict', `Apply failed with ${count}:${list}`, {
    causes: texts.map((text) => ({ reason: 'FieldManagerConflict', ...text })),
  })
}
