/** Lists: filters, pages and fields as Neutron has them. */

import type { Answer, Ask } from './context.ts'

const CONTROL = ['limit', 'marker', 'fields', 'sort_key', 'sort_dir', 'page_reverse']

type View = { readonly [key: string]: unknown }

/** As a query writes it; null is empty. */
const textOf = (value: unknown): string =>
  typeof value === 'string' ? value : value === null || value === undefined ? '' : JSON.stringify(value)

function matches(view: View, key: string, wanted: readonly string[]): boolean {
  const value = view[key]
  switch (key) {
    case 'fixed_ips': {
      const held: readonly unknown[] = Array.isArray(value) ? value : []
      return wanted.every((condition) => {
        const [field = '', text = ''] = condition.split('=')
        // Conditions are met by the port, not all by one of its addresses.
        return held.some((one) => {
          const fixed: unknown = typeof one === 'object' && one !== null ? Reflect.get(one, field) : undefined
          return fixed === text
        })
      })
    }
    case 'tags': {
      const held: readonly unknown[] = Array.isArray(value) ? value : []
      return wanted.flatMap((text) => text.split(',')).every((tag) => held.includes(tag))
    }
    default:
      return wanted.some((text) => textOf(value) === text)
  }
}

function only(view: View, fields: readonly string[]): View {
  return fields.length === 0 ? view : Object.fromEntries(Object.entries(view).filter(([key]) => fields.includes(key)))
}

/** The page of a list that a query asks for. A full page has a link to the next one, even where that is empty. */
export function listing(ask: Ask, key: string, views: readonly View[], base: string): Answer {
  const { query } = ask
  const filters = [...new Set(query.keys())].filter((name) => !CONTROL.includes(name))
  const found = views
    .filter((view) => filters.every((name) => matches(view, name, query.getAll(name))))
    .toSorted((a, b) => (String(a['id']) < String(b['id']) ? -1 : 1))
  const marker = query.get('marker')
  const start = marker === null ? 0 : found.findIndex((view) => view['id'] === marker) + 1
  const limit = Number(query.get('limit') ?? '0')
  const page = limit > 0 ? found.slice(start, start + limit) : found.slice(start)
  const last = page.at(-1)
  const next = new URLSearchParams(query)
  if (last !== undefined) next.set('marker', String(last['id']))
  const full = limit > 0 && page.length === limit
  const links = full ? { [`${key}_links`]: [{ rel: 'next', href: `${base}/v2.0/${key}?${next.toString()}` }] } : {}
  const fields = query.getAll('fields')
  return { status: 200, body: { [key]: page.map((view) => only(view, fields)), ...links } }
}
