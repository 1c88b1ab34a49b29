import { readFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'

/** What the machine needs to reach this machine's files, and to speak. */
const MODULES = ['virtio_pci', 'virtio_console', 'virtio_rng', 'fuse', 'virtiofs', 'overlay']
const TYPE = { file: 0o100_000, folder: 0o040_000 }

/**
 * The files of a kernel's modules, each after those it needs, from the table that depmod wrote (modules.dep).
 * A name that is not there is part of the kernel itself, and left out.
 *
 * @param {string} table one line a module: `path: paths of what it needs`, the farthest need last
 * @param {readonly string[]} names
 */
export function inLoadingOrder(table, names) {
  const lines = table.split('\n').map((line) => line.split(/:? /).filter((path) => path !== ''))
  const nameOf = (path) =>
    basename(path.replace(/:$/, ''))
      .replace(/\.ko(\.\w+)?$/, '')
      .replaceAll('-', '_')
  const order = new Set()
  for (const name of names) {
    const [path, ...needs] = lines.find(([first]) => first !== undefined && nameOf(first) === name) ?? []
    if (path === undefined) continue
    for (const need of needs.reverse()) order.add(need)
    order.add(path.replace(/:$/, ''))
  }
  return [...order]
}

/**
 * An archive of files as the kernel unpacks it into its first file system: cpio's "newc" format
 * (Documentation/driver-api/early-userspace/buffer-format.rst). Folders come from the files' paths. Like `cpio -o -H newc`.
 *
 * @param {Readonly<Record<string, Uint8Array | string>>} files every file may be executed
 */
export function cpio(files) {
  const folders = new Set()
  // A folder comes before what is in it.
  const addFolders = (path) => {
    const folder = dirname(path)
    if (folder === '.') return
    addFolders(folder)
    folders.add(folder)
  }
  for (const path of Object.keys(files)) addFolders(path)
  const parts = []
  const pad = (bytes) => Buffer.concat([bytes, Buffer.alloc(-bytes.length & 3)])
  let inode = 1
  const add = (path, mode, body) => {
    const fields = [inode++, mode, 0, 0, 1, 0, body.length, 0, 0, 0, 0, path.length + 1, 0]
    const header = `070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}${path}\0`
    parts.push(pad(Buffer.from(header)), pad(body))
  }
  for (const folder of folders) add(folder, TYPE.folder | 0o755, Buffer.alloc(0))
  for (const [path, body] of Object.entries(files)) add(path, TYPE.file | 0o755, Buffer.from(body))
  add('TRAILER!!!', 0, Buffer.alloc(0))
  return Buffer.concat(parts)
}

/**
 * The machine's first file system.
 *
 * @param {{ kernel: import('./kernel.mjs').Kernel, busybox: string, settings: Readonly<Record<string, string>>, argv: readonly string[] }} machine
 *   `settings` become variables of init.sh and session.sh, `argv` is what the session runs
 */
export function initrd({ kernel, busybox, settings, argv }) {
  const own = (name) => readFileSync(join(import.meta.dirname ?? dirname(new URL(import.meta.url).pathname), name))
  const folder = join(kernel.modules, kernel.version)
  const modules = inLoadingOrder(readFileSync(join(folder, 'modules.dep'), 'utf8'), MODULES)
  const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`
  return cpio({
    init: own('init.sh'),
    'bin/busybox': readFileSync(busybox),
    'session/session.sh': own('session.sh'),
    'session/settings': Object.entries(settings)
      .map(([name, value]) => `${name}=${quoted(value)}\n`)
      .join(''),
    'session/argv': argv.map((argument) => `${argument}\n`).join(''),
    'modules/order': modules.map((path) => `${basename(path)}\n`).join(''),
    ...Object.fromEntries(modules.map((path) => [`modules/${basename(path)}`, readFileSync(join(folder, path))])),
  })
}
