import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'

import { commandPath, root } from '../paths.mjs'
import { Problem } from '../setup/problem.mjs'

/** Programs of Debian that the agent calls, and the names under which each is called. */
const programs = [
  { file: 'nft', names: ['nft'] },
  {
    file: 'xtables-nft-multi',
    names: ['iptables', 'ip6tables'].flatMap((name) =>
      ['', '-save', '-restore'].flatMap((verb) => [`${name}${verb}`, `${name}-nft${verb}`]),
    ),
  },
  {
    file: 'xtables-legacy-multi',
    names: ['iptables', 'ip6tables'].flatMap((name) =>
      ['', '-save', '-restore'].map((verb) => `${name}-legacy${verb}`),
    ),
  },
]

/** What people type into a shell of the container, from busybox. `cp` is our own. */
const applets = [
  'sh',
  'ls',
  'cat',
  'mv',
  'rm',
  'mkdir',
  'ln',
  'sleep',
  'env',
  'grep',
  'sed',
  'head',
  'tail',
  'ps',
  'ip',
  'ping',
  'nslookup',
  'wget',
  'vi',
  'id',
  'kill',
  'true',
  'false',
]

/** Read as they are, where they are. */
const files = ['/etc/ssl/certs/ca-certificates.crt', '/etc/protocols', '/etc/services']

const texts = {
  '/etc/passwd': 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n',
  '/etc/group': 'root:x:0:\nnobody:x:65534:\n',
  '/etc/nsswitch.conf': 'hosts: files dns\n',
}

const HOME = '/usr/lib/heddle'

/**
 * Fills `directory` with everything that the image holds: dist/, the programs it calls, and the libraries of those, all from this machine.
 *
 * @param {string} directory made anew
 * @throws {Problem} where a program is missing
 */
export function makeRootfs(directory) {
  rmSync(directory, { recursive: true, force: true })
  const at = (path) => join(directory, path)
  for (const path of [
    '/bin',
    '/sbin',
    '/usr/sbin',
    '/etc',
    '/tmp',
    '/root',
    '/run',
    '/var',
    '/proc',
    '/sys',
    '/dev',
    '/opt/bin',
    HOME,
  ])
    mkdirSync(at(path), { recursive: true })
  chmodSync(at('/tmp'), 0o1777)
  symlinkSync('/run', at('/var/run'))

  for (const name of ['bin', 'lib', 'cni']) cpSync(join(root, 'dist', name), at(`${HOME}/${name}`), { recursive: true })
  symlinkSync(`${HOME}/bin/heddle`, at('/bin/heddle'))
  symlinkSync(`${HOME}/cni/flannel`, at('/flannel'))
  for (const [name, target] of [
    ['flanneld', '/opt/bin/flanneld'],
    ['cp', '/bin/cp'],
  ]) {
    copyFileSync(join(root, 'deploy', 'image', name), at(target))
    chmodSync(at(target), 0o755)
  }

  const binaries = [at(`${HOME}/bin/node`)]
  for (const { file, names } of programs) {
    const source = programPath(file)
    copyInto(directory, source, `/usr/sbin/${file}`)
    binaries.push(source)
    for (const name of names) if (name !== file) symlinkSync(file, at(`/usr/sbin/${name}`))
  }
  copyInto(directory, programPath('busybox'), '/bin/busybox')
  for (const name of applets) symlinkSync('busybox', at(`/bin/${name}`))

  const extensions = extensionsOf(programPath('xtables-nft-multi'))
  for (const file of extensions) copyInto(directory, file, file)
  for (const library of librariesOf([...binaries, ...extensions])) copyInto(directory, library, library)
  for (const file of files) if (existsSync(file)) copyInto(directory, file, file)
  for (const [path, text] of Object.entries(texts)) writeFileSync(at(path), text)
}

function programPath(name) {
  const found = commandPath(name)
  if (found !== undefined) return found
  throw new Problem({
    what: `the image needs ${name}, which is not on this machine`,
    remedy: 'apt-get install nftables iptables busybox-static ca-certificates',
  })
}

/** Follows links, so that what lies there is a file; a library keeps the name that programs ask for. */
function copyInto(directory, source, target) {
  const to = join(directory, target)
  mkdirSync(dirname(to), { recursive: true })
  copyFileSync(realpathSync(source), to)
}

/** The modules for matches and targets that iptables loads by name. */
function extensionsOf(program) {
  const folders = ['x86_64-linux-gnu', 'aarch64-linux-gnu'].map((triplet) => `/usr/lib/${triplet}/xtables`)
  const folder = folders.find((path) => existsSync(path))
  if (folder === undefined) throw new Problem({ what: `no modules of iptables beside ${program}` })
  return readdirSync(folder)
    .filter((name) => name.endsWith('.so'))
    .map((name) => join(folder, name))
}

/** Shared libraries and loaders that some programs need, by the paths under which they look for them. */
function librariesOf(binaries) {
  const found = new Set()
  for (const binary of binaries) {
    const output = execFileSync('ldd', [binary], { encoding: 'utf8', env: { ...process.env, LC_ALL: 'C' } })
    for (const line of output.split('\n')) {
      const path = /=> (\/\S+)/.exec(line)?.[1] ?? /^\s*(\/\S+) \(/.exec(line)?.[1]
      if (path !== undefined) found.add(path)
    }
  }
  return found
}
