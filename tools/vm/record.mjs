/** A reporter for `node --test`: one line of JSON a test, so that what ran here and what ran elsewhere can be held together (tools/skips.mjs). */

import { relative } from 'node:path'

import { root } from '../paths.mjs'

/** @typedef {{ file: string, name: string, outcome: 'passed' | 'failed' | 'skipped', reason?: string }} Record */

export default async function* record(events) {
  for await (const { type, data } of events) {
    if (type !== 'test:pass' && type !== 'test:fail') continue
    // A suite, or the file itself where nothing in it could be run.
    if (data.details?.type === 'suite' || data.file === undefined) continue
    const skipped = data.skip !== undefined && data.skip !== false
    const outcome = skipped ? 'skipped' : type === 'test:pass' ? 'passed' : 'failed'
    const reason = typeof data.skip === 'string' ? { reason: data.skip } : {}
    yield `${JSON.stringify({ file: relative(root, data.file), name: data.name, outcome, ...reason })}\n`
  }
}
