/**
 * `npm run image`: makes build/image/heddle.tar, an OCI archive of the image for nodes, from dist/ and this machine's own nftables, iptables and busybox.
 * Needs no container tool and no network. deploy/image/Dockerfile makes the same with one.
 *
 *   node tools/image.mjs [--name NAME]
 */

import { mkdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'

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
  const args = process.argv.slice(2)
  const name = args[0] === '--name' ? args[1] : `localhost/heddle:${version}`
  const folder = join(buildDir, 'image')
  mkdirSync(folder, { recursive: true })
  const archive = join(folder, 'heddle.tar')
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
  const size = (statSync(archive).size / 1e6).toFixed(0)
  console.log(`image: ${name} ${digest}`)
  console.log(`image: ${archive}, ${size} MB (${seconds(Date.now() - started)})`)
  return 0
})
