/** subnet.env on disk: there when, and only when, pods can be given addresses of the present subnet. */

import { mkdir, readFile, rm } from 'node:fs/promises'
import { dirname } from 'node:path'

import { writeFileAtomic } from '#sys/atomic-file.ts'
import { parseSubnetEnv } from '#plugins/flannel/subnet-env.ts'
import { localFamilies, type Local } from '#flannel/local.ts'
import { formatSubnetEnv, subnetEnvOf } from '#flannel/subnet-env.ts'
import { errorFields } from './log.ts'

export class SubnetFile {
  readonly #path: string

  constructor(path: string) {
    this.#path = path
  }

  /** Writes the file unless it says the same already. Returns whether it wrote. Throws errors of the file system. */
  async write(local: Local, mtu: number): Promise<boolean> {
    const text = formatSubnetEnv(subnetEnvOf(local, mtu))
    if ((await this.#read()) === text) return false
    await mkdir(dirname(this.#path), { recursive: true, mode: 0o755 })
    await writeFileAtomic(this.#path, text, { mode: 0o644 })
    return true
  }

  /** Removes a file that names other subnets than these: pods made by it would get addresses that lead elsewhere. */
  async removeIfStale(local: Local): Promise<boolean> {
    const text = await this.#read()
    if (text === undefined) return false
    const said = parseSubnetEnv(text)
    const ours = localFamilies(local).map((family) => local[family]?.subnet)
    if (
      typeof said !== 'string' &&
      said.subnets.length === ours.length &&
      said.subnets.every((subnet) => ours.includes(subnet))
    )
      return false
    await rm(this.#path, { force: true })
    return true
  }

  async #read(): Promise<string | undefined> {
    try {
      return await readFile(this.#path, 'utf8')
    } catch (error) {
      if (errorFields(error).code === 'ENOENT') return undefined
      throw error
    }
  }
}
