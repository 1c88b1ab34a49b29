/**
 * What ran where: holds together the records of test runs on this machine and in the virtual one, and fails where a test ran in none of them.
 *
 *   node tools/skips.mjs RECORD...      files that HEDDLE_TEST_RECORD made npm test and npm run test:vm write
 */

import { existsSync, readFileSync } from 'node:fs'
import { basename, extname } from 'node:path'

import { runTool } from './setup/problem.mjs'
import { OUTSIDE, SLOW } from './vm/files.mjs'
import { compare } from './vm/where.mjs'

/** As of `npm run test:vm`: this machine cannot do it. */
const CANNOT = 77

/** @returns {readonly import('./vm/record.mjs').Record[]} */
const read = (path) =>
  readFileSync(path, 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line))

/** @param {readonly string[]} lines @param {string} what */
function tell(lines, what) {
  if (lines.length > 0) console.log(`\nskips: ${lines.length} tests ${what}:`)
  for (const line of lines) console.log(`  ${line}`)
}

await runTool('skips', async () => {
  const paths = process.argv.slice(2)
  const absent = paths.filter((path) => !existsSync(path))
  if (absent.length > 0) console.log(`skips: no record ${absent.join(', ')}: nothing ran there`)
  const present = paths.filter((path) => existsSync(path))
  const { table, nowhere } = compare(
    Object.fromEntries(present.map((path) => [basename(path, extname(path)), read(path)])),
  )
  for (const line of table) console.log(line)
  const isSlow = (line) => SLOW.some((file) => line.startsWith(`${file}: `))
  const isOutside = (line) => OUTSIDE.some((file) => line.startsWith(`${file}: `))
  const forgotten = nowhere.filter((line) => !isSlow(line) && !isOutside(line))
  tell(nowhere.filter(isSlow), 'left to npm run test:vm -- --all')
  tell(nowhere.filter(isOutside), 'need what is no package of Debian')
  tell(forgotten, 'ran nowhere')
  if (forgotten.length === 0) return 0
  // Where there is no virtual machine, that has been said.
  return absent.length > 0 ? CANNOT : 1
})
