/** The image that pods of these tests run: one static program, made here from native/test/pause.c. */

import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { copyFileSync, mkdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const projectRoot = join(import.meta.dirname, '..', '..')

/** The port on which the program answers with its host name. */
export const PAUSE_PORT = 8080
export const PAUSE_IMAGE = 'heddle.test/pause:1'

/** Compiles the program unless that was done since its source changed; its path. */
export function pauseProgram(): string {
  const source = join(projectRoot, 'native', 'test', 'pause.c')
  const target = join(projectRoot, 'build', 'test', 'pause')
  const timeOf = (path: string): number => statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0
  if (timeOf(target) > timeOf(source)) return target
  mkdirSync(join(projectRoot, 'build', 'test'), { recursive: true })
  const fresh = `${target}.${process.pid}`
  const flags = ['-std=gnu11', '-static', '-O2', '-s', '-Wall', '-Wextra', '-Werror']
  execFileSync(process.env['CC'] ?? 'cc', [...flags, '-o', fresh, source], { stdio: 'pipe', timeout: 60_000 })
  renameSync(fresh, target)
  return target
}

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')

/** Packs a folder's files as root's, always with the same bytes. Like `tar -cf`. */
function tar(folder: string, archive: string, ...files: readonly string[]): void {
  const same = ['--owner=0', '--group=0', '--mtime=@0', '--sort=name', '--format=ustar']
  execFileSync('tar', ['-cf', archive, ...same, '-C', folder, ...files], { stdio: 'pipe', timeout: 60_000 })
}

/**
 * Writes the image as an archive that `ctr images import` and `podman load` read.
 * Source: OCI image-spec, image-layout.md, manifest.md and config.md.
 *
 * @param folder an empty folder to work in
 */
export function pauseArchive(folder: string): string {
  const layout = join(folder, 'layout')
  const blobs = join(layout, 'blobs', 'sha256')
  const files = join(folder, 'files')
  mkdirSync(blobs, { recursive: true })
  mkdirSync(files)
  copyFileSync(pauseProgram(), join(files, 'pause'))
  tar(files, join(folder, 'layer.tar'), 'pause')
  const blob = (mediaType: string, bytes: Uint8Array) => {
    const digest = sha256(bytes)
    writeFileSync(join(blobs, digest), bytes)
    return { mediaType, digest: `sha256:${digest}`, size: bytes.length }
  }
  const json = (value: object): Buffer => Buffer.from(JSON.stringify(value))
  const layer = blob('application/vnd.oci.image.layer.v1.tar', readFileSync(join(folder, 'layer.tar')))
  const config = blob(
    'application/vnd.oci.image.config.v1+json',
    json({
      architecture: process.arch === 'arm64' ? 'arm64' : 'amd64',
      os: 'linux',
      config: { Entrypoint: ['/pause'] },
      rootfs: { type: 'layers', diff_ids: [layer.digest] },
    }),
  )
  const manifestType = 'application/vnd.oci.image.manifest.v1+json'
  const manifest = blob(manifestType, json({ schemaVersion: 2, mediaType: manifestType, config, layers: [layer] }))
  // containerd reads the first name, podman the second.
  const annotations = { 'io.containerd.image.name': PAUSE_IMAGE, 'org.opencontainers.image.ref.name': PAUSE_IMAGE }
  writeFileSync(join(layout, 'index.json'), json({ schemaVersion: 2, manifests: [{ ...manifest, annotations }] }))
  writeFileSync(join(layout, 'oci-layout'), json({ imageLayoutVersion: '1.0.0' }))
  const archive = join(folder, 'pause.tar')
  tar(layout, archive, 'blobs', 'index.json', 'oci-layout')
  return archive
}
