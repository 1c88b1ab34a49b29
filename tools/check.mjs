/**
 * `npm run check`: types, lint, format, import direction, file lengths, documents. One line each; details where one fails.
 *
 *   npm run check -- --fix    formats the files (also `npm run format`), and mends what the linter can
 */

import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

import { brokenLinks, differences } from './check/documents.mjs'
import { checkImports } from './check/imports.mjs'
import { tooLong } from './check/lines.mjs'
import { filesBelow } from './files.mjs'
import { missingEntries } from './lockfile.mjs'
import { pinnedNode, root } from './paths.mjs'
import { setup } from './setup.mjs'
import { runTool } from './setup/problem.mjs'
import { capture } from './setup/step.mjs'

const read = (file) => readFileSync(join(root, file), 'utf8')
const bin = (name) => join(root, 'node_modules', '.bin', name)

/** A tool of node_modules, run by the pinned Node.js whatever `node` is on PATH. */
const tool = async (name, ...args) => {
  const { code, output } = await capture(pinnedNode, [bin(name), ...args], { timeoutMs: 120_000 })
  return code === 0 ? [] : [output.trim() || `${name} ended with code ${code}`]
}

const sources = () => new Map(filesBelow('src', (name) => name.endsWith('.ts')).map((file) => [file, read(file)]))

function documents() {
  const texts = [
    'README.md',
    'README.zh-CN.md',
    'CONTRIBUTING.md',
    ...filesBelow('docs', (name) => name.endsWith('.md')),
  ].map((file) => [file, existsSync(join(root, file)) ? read(file) : ''])
  const links = texts.flatMap(([file, text]) => brokenLinks(file, text, (path) => existsSync(join(root, path))))
  return [...differences(texts[0][1], texts[1][1], ['README.md', 'README.zh-CN.md']), ...links]
}

function lockfile() {
  const missing = Object.keys(missingEntries(JSON.parse(read('package-lock.json'))))
  return missing.length === 0
    ? []
    : [`package-lock.json lacks ${missing.length} entries (${missing[0]} …): run node tools/lockfile.mjs`]
}

const checks = {
  types: () => tool('tsc', '-p', '.'),
  lint: () => tool('oxlint'),
  'lint, type-aware': () => tool('oxlint', '--type-aware'),
  format: () => tool('oxfmt', '--check'),
  imports: () => checkImports(sources(), JSON.parse(read('package.json'))),
  lengths: () => tooLong(sources()),
  documents,
  lockfile,
}

async function report([name, check]) {
  const started = performance.now()
  const problems = await check()
  const ms = Math.round(performance.now() - started)
  console.log(`${problems.length === 0 ? 'ok    ' : 'FAILED'} ${name.padEnd(18)} ${String(ms).padStart(5)} ms`)
  return { name, problems }
}

await runTool('check', async () => {
  await setup('check')
  if (process.argv.includes('--fix')) {
    const problems = [...(await tool('oxfmt')), ...(await tool('oxlint', '--fix'))]
    if (problems.length > 0) console.log(problems.join('\n'))
  }
  const results = await Promise.all(Object.entries(checks).map(report))
  const failed = results.filter(({ problems }) => problems.length > 0)
  for (const { name, problems } of failed) console.log(`\n== ${name}\n${problems.join('\n')}`)
  return failed.length === 0 ? 0 : 1
})
