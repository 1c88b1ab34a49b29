/** podman inside a machine, with its CNI backend and storage of its own. */

import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { isObject } from '#cni/json.ts'
import type { Machine } from './machine.ts'
import { pauseArchive, PAUSE_IMAGE } from './pause.ts'

/** Where podman keeps the networks that it makes. */
export const NETWORK_DIR = '/run/cni/podman'

export class Podman {
  readonly machine: Machine
  readonly #env: Readonly<Record<string, string>>

  /** @param pluginDirs the first that has a plugin is taken */
  constructor(machine: Machine, pluginDirs: readonly string[]) {
    this.machine = machine
    const file = (name: string, text: string): string => {
      const path = join(machine.folder, name)
      writeFileSync(path, text)
      return path
    }
    this.#env = {
      CONTAINERS_CONF: file(
        'containers.conf',
        `[containers]
cgroups = "no-conmon"
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
[network]
network_backend = "cni"
cni_plugin_dirs = ${JSON.stringify(pluginDirs)}
network_config_dir = "${NETWORK_DIR}"
`,
      ),
      CONTAINERS_STORAGE_CONF: file(
        'storage.conf',
        '[storage]\ndriver = "vfs"\nrunroot = "/run/podman-run"\ngraphroot = "/run/podman-root"\n',
      ),
      CONTAINERS_REGISTRIES_CONF: file('registries.conf', ''),
    }
  }

  async loadImage(): Promise<void> {
    const folder = join(this.machine.folder, 'image')
    mkdirSync(folder)
    await this.run('load', '--input', pauseArchive(folder))
  }

  /** `podman ARGUMENTS`; its output. */
  async run(...args: readonly string[]): Promise<string> {
    return (await this.machine.run(['podman', ...args], undefined, this.#env)).trim()
  }

  /** `podman run --detach`, with the image; the container's id. */
  start(name: string, ...options: readonly string[]): Promise<string> {
    const parent = ['--cgroup-parent', `/${this.machine.cgroup}`]
    return this.run('run', '--detach', '--name', name, '--hostname', name, ...parent, ...options, PAUSE_IMAGE)
  }

  /** The addresses of a container in a network, as podman has them from the plugins' result. */
  async addresses(name: string, network: string): Promise<readonly string[]> {
    const networks: unknown = JSON.parse(
      await this.run('inspect', '--format', '{{json .NetworkSettings.Networks}}', name),
    )
    const found = isObject(networks) ? networks[network] : undefined
    if (!isObject(found)) return []
    return [found['IPAddress'], found['GlobalIPv6Address']]
      .filter((address) => typeof address === 'string' && address !== '')
      .map(String)
  }
}
