/**
 * This node's WireGuard key on disk. Peers know its public half, so it must outlive agents, devices and reboots.
 *
 * Flannel keeps it in /run, where a reboot takes it. Here it is in /var/lib; one that flannel left is taken over, and a copy stays where
 * flannel looks for it, so that neither change of the software is a change of the key.
 */

import { randomBytes } from 'node:crypto'
import { chmod, mkdir, readFile, stat } from 'node:fs/promises'
import { dirname } from 'node:path'

import { FlannelError } from '#flannel/errors.ts'
import type { WireguardIdentity } from '#flannel/local.ts'
import { newPrivateKey, publicKeyOf, secretKey, secretText } from '#netlink/wireguard-key.ts'
import { writeFileAtomic } from '#sys/atomic-file.ts'
import { hasCode } from '#sys/errno.ts'
import type { Secret } from '#sys/secret.ts'
import { errorFields, type Log } from './log.ts'

export interface KeyPlaces {
  /** Chosen by the operator (WIREGUARD_KEY_FILE): then the only one. */
  readonly named?: string | undefined
  readonly own: string
  /** Where flannel keeps it. */
  readonly flannel: string
}

export interface KeyFileOptions {
  readonly places: KeyPlaces
  readonly log: Log
  /** Undefined: the key is on disk. Else why it is not; it is tried again. */
  readonly onKept: (trouble: string | undefined) => void
  readonly random?: (size: number) => Uint8Array
}

/** A key is 44 characters; more than this is another kind of file. */
const MAX_BYTES = 1024
const FIRST_RETRY = 1_000
const LONGEST_RETRY = 60_000

export class WireguardKeyFile implements AsyncDisposable {
  readonly identity: WireguardIdentity
  readonly #options: KeyFileOptions
  readonly #path: string
  #timer: NodeJS.Timeout | undefined
  #writing: Promise<void> | undefined
  #attempts = 0

  private constructor(options: KeyFileOptions, key: Secret, isKept: boolean) {
    this.#options = options
    this.#path = pathOf(options.places)
    this.identity = { kind: 'wireguard', privateKey: key, publicKey: publicKeyOf(key) }
    if (isKept) options.onKept(undefined)
  }

  /**
   * Reads the key, or makes one and writes it. A file that the operator named and that holds no key is refused with FlannelError
   * `bad-option`: it may be the wrong file. Throws errors of the file system other than that there is none.
   */
  static async open(options: KeyFileOptions): Promise<WireguardKeyFile> {
    const { places, log, random = randomBytes } = options
    const path = pathOf(places)
    const kept = await readKey(path)
    if (kept === 'no key' && places.named !== undefined)
      throw new FlannelError(
        'bad-option',
        'WIREGUARD_KEY_FILE',
        `${path} holds no WireGuard key`,
        'it must hold 32 bytes in base64, as `wg genkey` makes them; without the file a key is made and written there',
      )
    if (kept === 'no key')
      log.error({ path }, 'the WireGuard key is damaged: making another one, which peers learn from our Node')
    const former = typeof kept === 'object' || places.named !== undefined ? undefined : await readKey(places.flannel)
    const found = typeof kept === 'object' ? kept : typeof former === 'object' ? former : undefined
    const file = new WireguardKeyFile(options, found ?? newPrivateKey(random), typeof kept === 'object')
    if (typeof kept === 'object') await file.#protect()
    else {
      if (typeof former === 'object') log.info({ path: places.flannel }, "took over flannel's WireGuard key")
      await file.#write()
    }
    await file.#leaveCopy()
    return file
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearTimeout(this.#timer)
    await this.#writing
    clearTimeout(this.#timer)
  }

  async #write(): Promise<void> {
    const { log, onKept } = this.#options
    try {
      await mkdir(dirname(this.#path), { recursive: true, mode: 0o755 })
      await writeFileAtomic(this.#path, secretText(this.identity.privateKey), { mode: 0o600 })
      onKept(undefined)
    } catch (error) {
      const { error: message } = errorFields(error)
      const trouble = `the WireGuard key cannot be written to ${this.#path} (${message}): after a restart peers have to learn another one`
      if (this.#attempts === 0) log.warn({ path: this.#path, ...errorFields(error) }, trouble)
      onKept(trouble)
      this.#timer = setTimeout(
        () => (this.#writing = this.#write()),
        Math.min(LONGEST_RETRY, FIRST_RETRY * 2 ** Math.min(this.#attempts++, 10)),
      )
      this.#timer.unref()
    }
  }

  /** A key that others may read is as good as published. */
  async #protect(): Promise<void> {
    const { mode } = await stat(this.#path)
    if ((mode & 0o077) === 0) return
    this.#options.log.warn(
      { path: this.#path, mode: (mode & 0o777).toString(8) },
      'others could read the WireGuard key: now only we can',
    )
    await chmod(this.#path, 0o600)
  }

  async #leaveCopy(): Promise<void> {
    const { places, log } = this.#options
    if (places.named !== undefined) return
    try {
      const there = await readKey(places.flannel)
      if (typeof there === 'object' && there.equals(this.identity.privateKey)) return
      await mkdir(dirname(places.flannel), { recursive: true, mode: 0o755 })
      await writeFileAtomic(places.flannel, secretText(this.identity.privateKey), { mode: 0o400 })
    } catch (error) {
      log.debug({ path: places.flannel, ...errorFields(error) }, 'no copy of the key for flannel')
    }
  }
}

const pathOf = ({ named, own }: KeyPlaces): string => named ?? own

async function readKey(path: string): Promise<Secret | 'no file' | 'no key'> {
  try {
    const { size } = await stat(path)
    if (size > MAX_BYTES) return 'no key'
    return secretKey(await readFile(path, 'latin1')) ?? 'no key'
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return 'no file'
    throw error
  }
}
