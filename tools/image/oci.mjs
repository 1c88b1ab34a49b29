import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'

const sha256 = (bytes) => `sha256:${createHash('sha256').update(bytes).digest('hex')}`

/** The same files make the same bytes. */
const SAME = ['--sort=name', '--mtime=@0', '--owner=0', '--group=0', '--numeric-owner', '--format=gnu']

/**
 * Packs a directory as an OCI image of one layer (image-spec v1.1: layout, index, manifest, config), in one tar file that `ctr images import`,
 * `podman load` and `skopeo copy oci-archive:` take.
 *
 * @param {{ rootfs: string, work: string, archive: string, name: string, architecture: 'amd64' | 'arm64', config: object, labels: Readonly<Record<string, string>> }} image
 */
export function packImage({ rootfs, work, archive, name, architecture, config, labels }) {
  rmSync(work, { recursive: true, force: true })
  const blobs = join(work, 'blobs', 'sha256')
  mkdirSync(blobs, { recursive: true })
  const blob = (mediaType, bytes) => {
    const digest = sha256(bytes)
    writeFileSync(join(blobs, digest.slice('sha256:'.length)), bytes)
    return { mediaType, digest, size: bytes.length }
  }
  const json = (value) => Buffer.from(JSON.stringify(value))

  const tar = join(work, 'layer.tar')
  execFileSync('tar', [...SAME, '-C', rootfs, '-cf', tar, '.'])
  const content = readFileSync(tar)
  rmSync(tar)
  const layer = blob('application/vnd.oci.image.layer.v1.tar+gzip', gzipSync(content, { level: 6 }))
  const imageConfig = blob(
    'application/vnd.oci.image.config.v1+json',
    json({
      architecture,
      os: 'linux',
      config: { ...config, Labels: labels },
      rootfs: { type: 'layers', diff_ids: [sha256(content)] },
      history: [{ created_by: 'tools/image.mjs' }],
    }),
  )
  const manifest = blob(
    'application/vnd.oci.image.manifest.v1+json',
    json({
      schemaVersion: 2,
      mediaType: 'application/vnd.oci.image.manifest.v1+json',
      config: imageConfig,
      layers: [layer],
      annotations: labels,
    }),
  )
  const annotations = { 'org.opencontainers.image.ref.name': name, 'io.containerd.image.name': name }
  const index = {
    schemaVersion: 2,
    mediaType: 'application/vnd.oci.image.index.v1+json',
    manifests: [{ ...manifest, platform: { architecture, os: 'linux' }, annotations }],
  }
  writeFileSync(join(work, 'index.json'), json(index))
  writeFileSync(join(work, 'oci-layout'), json({ imageLayoutVersion: '1.0.0' }))
  execFileSync('tar', [...SAME, '-C', work, '-cf', archive, 'blobs', 'index.json', 'oci-layout'])
  rmSync(work, { recursive: true, force: true })
  return { digest: manifest.digest, size: layer.size }
}
