/** strongSwan's charon in a network namespace, with its own /run and /etc: several can live beside each other and beside the machine's. */

import { execFileSync, spawn, type ChildProcess } from 'node:child_process'
import { existsSync, mkdirSync, openSync, closeSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { needsRoot } from '../namespace.ts'

/** Where the Debian package puts it; another tree is named by HEDDLE_STRONGSWAN (unpacked, not installed). */
const TREE = process.env['HEDDLE_STRONGSWAN'] ?? ''
const CHARON = '/usr/lib/ipsec/charon'

/** Why tests that need charon are skipped, or false. */
export const needsCharon: string | false =
  needsRoot !== false
    ? needsRoot
    : existsSync(`${TREE}${CHARON}`) && existsSync(`${TREE}/usr/lib/ipsec/plugins/libstrongswan-vici.so`)
      ? false
      : 'needs charon: apt-get install strongswan-charon strongswan-swanctl'

const CONF = `charon {
  load = random nonce aes sha1 sha2 hmac kdf drbg gcm gmp openssl kernel-netlink socket-default vici
  install_routes = yes
  filelog { log { path = LOG
    default = 1 } }
  plugins {
    vici { socket = unix://SOCKET }
  }
}
`

export class Charon {
  readonly socket: string
  readonly #folder: string
  readonly #netns: string
  #process: ChildProcess | undefined

  /** `netns`: the path of a namespace. The socket appears at `socket`. */
  constructor(netns: string, folder: string, socket: string) {
    this.#netns = netns
    this.#folder = join(folder, 'charon')
    this.socket = socket
    mkdirSync(this.#folder, { recursive: true })
    const conf = CONF.replace('LOG', join(this.#folder, 'log')).replace('SOCKET', socket)
    writeFileSync(join(this.#folder, 'strongswan.conf'), conf)
  }

  start(): void {
    const out = openSync(join(this.#folder, 'out'), 'a')
    // Its pid file lies in /run, whatever its configuration says.
    const tree = TREE === '' ? '' : `mkdir -p /usr/lib/ipsec && mount --bind ${TREE}/usr/lib/ipsec /usr/lib/ipsec;`
    const script = `mkdir -p "$1/run" && mount -t tmpfs tmpfs "$1/run" && mount --bind "$1/run" /var/run; ${tree} exec ${CHARON}`
    this.#process = spawn(
      'nsenter',
      [
        `--net=${this.#netns}`,
        'unshare',
        '--mount',
        '--propagation',
        'private',
        'sh',
        '-c',
        script,
        'sh',
        this.#folder,
      ],
      { env: { ...process.env, STRONGSWAN_CONF: join(this.#folder, 'strongswan.conf') }, stdio: ['ignore', out, out] },
    )
    closeSync(out)
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    const child = this.#process
    this.#process = undefined
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    const exited = new Promise((resolve) => child.once('exit', resolve))
    child.kill(signal)
    await exited
  }

  get log(): string {
    return ['out', 'log']
      .map((name) => join(this.#folder, name))
      .filter((path) => existsSync(path))
      .map((path) => readFileSync(path, 'utf8'))
      .join('\n')
  }

  /** What the kernel holds there. */
  xfrm(what: 'state' | 'policy'): string {
    return execFileSync('nsenter', [`--net=${this.#netns}`, 'ip', 'xfrm', what], { encoding: 'utf8', timeout: 30_000 })
  }
}
