/** containerd inside a machine, with folders, socket and configuration of its own. */

import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { Cri, type PodConfig } from './cri.ts'
import { until, type Machine } from './machine.ts'
import { pauseArchive, PAUSE_IMAGE } from './pause.ts'

const SOCKET = '/run/containerd/containerd.sock'
/** Where conf files lie inside. */
export const CONF_DIR = '/run/cni/net.d'

const confText = (pluginDir: string): string => `
version = 2
root = "/run/containerd-root"
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing",
  "io.containerd.internal.v1.opt",
]
[grpc]
address = "${SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "${PAUSE_IMAGE}"
disable_apparmor = true
disable_hugetlb_controller = true
disable_tcp_service = true
netns_mounts_under_state_dir = true
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "native"
default_runtime_name = "runc"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "${pluginDir}"
conf_dir = "${CONF_DIR}"
max_conf_num = 1
`

export class Containerd {
  readonly machine: Machine
  readonly #config: string
  #process: ChildProcess | undefined
  #cri: Cri | undefined

  constructor(machine: Machine, pluginDir: string) {
    this.machine = machine
    this.#config = join(machine.folder, 'containerd.toml')
    writeFileSync(this.#config, confText(pluginDir))
  }

  get cri(): Cri {
    if (this.#cri === undefined) throw new Error('containerd does not run')
    return this.#cri
  }

  /** Starts it, and waits until it answers. */
  async start(): Promise<void> {
    const child = this.machine.start('containerd', ['containerd', '--config', this.#config])
    this.#process = child
    const socket = this.machine.path(SOCKET)
    const answers = async (): Promise<boolean> => {
      if (child.exitCode !== null) throw new Error(`containerd ended: ${this.machine.logOf('containerd')}`)
      if (!existsSync(socket)) return false
      this.#cri ??= new Cri(socket)
      try {
        await this.#cri.network()
        return true
      } catch {
        this.#cri[Symbol.dispose]()
        this.#cri = undefined
        return false
      }
    }
    await until('containerd answers', answers, 20_000)
  }

  /** Brings the image in which every pod runs. */
  async loadImage(): Promise<void> {
    const folder = join(this.machine.folder, 'image')
    mkdirSync(folder)
    const ctr = ['ctr', '--address', SOCKET, '--namespace', 'k8s.io', 'images', 'import', '--snapshotter', 'native']
    await this.machine.run([...ctr, pauseArchive(folder)])
  }

  /** Ends it; sandboxes go on. */
  async stop(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    const [pid] = this.machine.pidsOf(`--config\0${this.#config}`)
    const child = this.#process
    if (pid === undefined || child === undefined) throw new Error('containerd does not run')
    this.#cri?.[Symbol.dispose]()
    this.#cri = undefined
    const exited = once(child, 'exit')
    this.machine.exec('kill', `-${signal.slice(3)}`, String(pid))
    await exited
  }

  run(pod: PodConfig): Promise<string> {
    return this.cri.run({ cgroupParent: `/${this.machine.cgroup}`, ...pod })
  }
}
