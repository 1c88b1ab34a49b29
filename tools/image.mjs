/**
 * `npm run image`: makes build/image/heddle.tar, an OCI archive of the image for nodes, from dist/ and this machine's own nftables, iptables and busybox.
 * Needs no container tool and no network. deploy/image/Dockerfile makes the same with one.
 *
 *   node tools/image.mjs [--name NAME] [--output FILE]
 */

import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'

import { packImage } from './image/oci.mjs'
import { makeRootfs } from './image/rootfs.mjs'
import { buildDir, root } from './paths.mjs'
import { setup } from './setup.mjs'
import { runTool } from './setup/problem.mjs'
import { seconds } from './setup/step.mjs'

await runTool('image', async () => {
  await setup('build')
  const started = Date.now()
  const { version, license } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  const { values } = parseArgs({ options: { name: { type: 'string' }, output: { type: 'string' } } })
  const name = values.name ?? `localhost/heddle:${version}`
  mkdirSync(join(buildDir, 'image'), { recursive: true })
  const archive = resolve(values.output ?? join(buildDir, 'image', 'heddle.tar'))
  // Of its own: two may be made at once.
  const folder = mkdtempSync(join(buildDir, 'image', 'work-'))
  try {
    pack(folder, archive, name, { version, license })
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
  console.log(`image: ${archive}, ${(statSync(archive).size / 1e6).toFixed(0)} MB (${seconds(Date.now() - started)})`)
  return 0
})

function pack(folder, archive, name, { version, license }) {
  const rootfs = join(folder, 'rootfs')
  makeRootfs(rootfs)
  const { digest } = packImage({
    rootfs,
    work: join(folder, 'layout'),
    archive,
    name,
    architecture: process.arch === 'arm64' ? 'arm64' : 'amd64',
    config: { Entrypoint: ['/opt/bin/flanneld'], Env: ['PATH=/usr/sbin:/usr/bin:/sbin:/bin'], WorkingDir: '/' },
    labels: {
      'org.opencontainers.image.title': 'heddle',
      'org.opencontainers.image.version': version,
      'org.opencontainers.image.licenses': license,
    },
  })
  console.log(`image: ${name} ${digest}`)
}
