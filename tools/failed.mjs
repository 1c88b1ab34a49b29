/**
 * The test files of a record (HEDDLE_TEST_RECORD) in which a test failed, a path a line, for one more run of just them.
 *
 *   node tools/failed.mjs RECORD
 */

import { readFileSync } from 'node:fs'
import { basename, join } from 'node:path'

import { filesBelow } from './files.mjs'
import { root } from './paths.mjs'
import { isTest } from './vm/files.mjs'

/** A suite that several test files share is named where it is written: those that import it. */
function testFilesOf(file) {
  if (isTest(file)) return [file]
  const tests = ['tools', 'src', 'test', 'bench'].flatMap((folder) => filesBelow(folder, isTest))
  return tests.filter((test) => readFileSync(join(root, test), 'utf8').includes(`/${basename(file)}'`))
}

const [path = ''] = process.argv.slice(2)
const records = readFileSync(path, 'utf8')
  .split('\n')
  .filter((line) => line !== '')
  .map((line) => JSON.parse(line))
const failed = records.filter(({ outcome }) => outcome === 'failed')
for (const { file, name } of failed) console.error(`  ${file}: ${name}`)
for (const file of new Set(failed.flatMap(({ file }) => testFilesOf(file)))) console.log(file)
