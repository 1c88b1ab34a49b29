/** The Dockerfile, built whole: from a base image that debootstrap makes, with podman or buildah, and its programs run. */

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { test } from 'node:test'

const root = join(import.meta.dirname, '../..')
const asked = process.env['HEDDLE_TEST_CONTAINER_BUILD']
const skip =
  asked === undefined ? 'downloads a Debian and its compilers: HEDDLE_TEST_CONTAINER_BUILD=1 builds it' : false

test('npm run image:container', { skip, timeout: 3_600_000 }, async (t) => {
  const child = spawn(process.execPath, [join(root, 'tools/image-container.mjs')], { cwd: root })
  let said = ''
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (chunk: string) => (said = `${said}${chunk}`.slice(-20_000)))
  const [code] = (await once(child, 'close')) as [number | null]
  if (code === 77) return t.skip(said.trim())
  assert.equal(code, 0, said)
  assert.match(said, /image:container: its programs run/)
})
