/** The image as an archive: well-formed, whole, and its programs run with nothing but what is in it. */

import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { gunzipSync } from 'node:zlib'

import { needsProgram } from '../namespace.ts'

const root = join(import.meta.dirname, '../..')

interface Descriptor {
  readonly digest: string
  readonly size: number
}

test(
  'npm run image',
  { skip: needsProgram('busybox', 'busybox-static') || needsProgram('iptables', 'iptables') },
  async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'heddle-image-'))
    try {
      const archive = join(folder, 'heddle.tar')
      const made = execFileSync(
        'node',
        [join(root, 'tools/image.mjs'), '--name', 'localhost/heddle:test', '--output', archive],
        { encoding: 'utf8' },
      )
      assert.match(made, /image: localhost\/heddle:test sha256:[0-9a-f]{64}/)
      const layout = join(folder, 'layout')
      execFileSync('mkdir', [layout])
      execFileSync('tar', ['-C', layout, '-xf', archive])
      const blob = ({ digest, size }: Descriptor): Buffer => {
        const bytes = readFileSync(join(layout, 'blobs', ...digest.split(':')))
        assert.equal(bytes.length, size)
        assert.equal(`sha256:${createHash('sha256').update(bytes).digest('hex')}`, digest)
        return bytes
      }

      await t.test('is an OCI image: every digest and size is right', () => {
        const index = JSON.parse(readFileSync(join(layout, 'index.json'), 'utf8')) as {
          manifests: readonly Descriptor[]
        }
        const [only, ...more] = index.manifests
        assert.ok(only !== undefined && more.length === 0)
        const manifest = JSON.parse(blob(only).toString()) as { config: Descriptor; layers: readonly Descriptor[] }
        const config = JSON.parse(blob(manifest.config).toString()) as {
          rootfs: { diff_ids: readonly string[] }
          config: { Entrypoint: readonly string[] }
        }
        assert.deepEqual(config.config.Entrypoint, ['/opt/bin/flanneld'])
        const [layer] = manifest.layers
        assert.ok(layer !== undefined)
        const content = gunzipSync(blob(layer))
        assert.deepEqual(config.rootfs.diff_ids, [`sha256:${createHash('sha256').update(content).digest('hex')}`])
        execFileSync('mkdir', [join(folder, 'rootfs')])
        execFileSync('tar', ['-C', join(folder, 'rootfs'), '-xf', '-'], { input: content, maxBuffer: 1 << 20 })
      })

      const rootfs = join(folder, 'rootfs')
      const inside = (...command: readonly string[]) =>
        spawnSync('chroot', [rootfs, ...command], {
          encoding: 'utf8',
          env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' },
          timeout: 60_000,
        })

      const version = (plugin: string): string => {
        const env = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', CNI_COMMAND: 'VERSION' }
        return spawnSync('chroot', [rootfs, plugin], { encoding: 'utf8', env, input: '{}', timeout: 60_000 }).stdout
      }

      await t.test('its programs find everything they need in it', () => {
        for (const [command, expected] of [
          [['/opt/bin/flanneld', '--version'], /^heddle \d/m],
          [['heddle', '--version'], /\d+\.\d+\.\d+/],
          [['nft', '--version'], /nftables/],
          [['iptables', '--version'], /nf_tables/],
          [['ip6tables-legacy', '--version'], /legacy/],
          [['ls', '/flannel'], /\/flannel/],
        ] as const) {
          const { status, stdout, stderr } = inside(...command)
          assert.equal(status, 0, `${command.join(' ')}: ${stderr}`)
          assert.match(`${stdout}${stderr}`, expected)
        }
        assert.match(
          inside('/opt/bin/flanneld').stderr,
          /etcd|kube-subnet-mgr/,
          'without flags it asks for etcd, as flanneld',
        )
      })

      await t.test('the init container of the manifest installs plugins that work alone', () => {
        const manifest = readFileSync(join(root, 'deploy/heddle.yml'), 'utf8')
        const args = (
          /command: \[\/usr\/lib\/heddle\/bin\/heddle, cni, install\]\n\s+args:\n((?:\s+- --.*\n)+)/.exec(
            manifest,
          )?.[1] ?? ''
        )
          .split('\n')
          .flatMap((line) => /- (--\S+)/.exec(line)?.[1] ?? [])
        execFileSync('mkdir', ['-p', join(rootfs, 'etc/kube-flannel')])
        writeFileSync(
          join(rootfs, 'etc/kube-flannel/cni-conf.json'),
          '{"name":"cbr0","cniVersion":"1.0.0","plugins":[{"type":"flannel"}]}',
        )
        const { status, stderr } = inside('heddle', 'cni', 'install', ...args)
        assert.equal(status, 0, stderr)
        assert.ok(existsSync(join(rootfs, 'etc/cni/net.d/10-flannel.conflist')))
        assert.match(version('/opt/cni/bin/flannel'), /"supportedVersions"/)
      })

      await t.test("flannel's own way of installing its plugin brings what ours needs", () => {
        execFileSync('mkdir', ['-p', join(rootfs, 'host/cni/bin')])
        assert.equal(inside('cp', '-f', '/flannel', '/host/cni/bin/flannel').status, 0)
        assert.match(version('/host/cni/bin/flannel'), /"supportedVersions"/)
      })

      await t.test('copying works as in any image', () => {
        assert.equal(inside('cp', '-f', '/etc/passwd', '/tmp/copy').status, 0)
        assert.ok(existsSync(join(rootfs, 'tmp/copy')))
        assert.notEqual(inside('cp', '-f', '/nothing', '/tmp/other').status, 0)
      })
    } finally {
      rmSync(folder, { recursive: true, force: true })
    }
  },
)
