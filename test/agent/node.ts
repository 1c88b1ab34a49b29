/** A node for tests of what attachments leave: a host and pods in namespaces, and a runtime with Heddle's own plugins, caches and records. */

import { join } from 'node:path'

import { recordFolder } from '#cni/attachment/record.ts'
import type { JsonObject } from '#cni/json.ts'
import { parseConfList, type ConfList } from '#cni/runtime/conflist.ts'
import type { HostBase } from '#cni/runtime/delegate.ts'
import { createRuntime, type Runtime } from '#cni/runtime/runtime.ts'
import { NetlinkSocket } from '#netlink/socket.ts'
import { registry } from '#plugins/registry.ts'
import { deleteNetns } from '#sys/netns.ts'
import { NetworkHost } from '../plugins/network-host.ts'

export interface TestPod {
  readonly containerId: string
  readonly netns: string
  readonly ifname: string
}

/** A bridge with masquerade, spoof check and host ports. */
export const listOf = (name = 'net1', more: JsonObject = {}): ConfList =>
  parseConfList(
    JSON.stringify({
      cniVersion: '1.1.0',
      name,
      plugins: [
        {
          type: 'bridge',
          bridge: 'br0',
          isDefaultGateway: true,
          hairpinMode: true,
          ipMasq: true,
          macspoofchk: true,
          ipam: { type: 'host-local', ranges: [[{ subnet: '10.77.0.0/24' }], [{ subnet: 'fd00:77::/64' }]] },
          ...more,
        },
        { type: 'portmap', capabilities: { portMappings: true } },
        { type: 'firewall', backend: 'nftables', ingressPolicy: 'same-bridge' },
      ],
    }),
    'test',
  )

export class TestNode implements Disposable {
  readonly made = new NetworkHost()
  readonly #sockets: NetlinkSocket[] = []
  readonly base: HostBase
  readonly runtime: Runtime

  constructor() {
    this.base = this.another()
    this.runtime = this.runtimeOf(this.base)
  }

  get root(): string {
    return this.made.root
  }

  /** The node as another program has it: with sockets of its own. */
  another(): HostBase {
    const netlink = NetlinkSocket.open({ netns: this.made.path })
    this.#sockets.push(netlink)
    return {
      root: this.made.root,
      netlink,
      records: recordFolder(this.made.root),
      failpoint: (name) => this.made.atFailpoint(name),
      log: (level, message, fields) => void this.made.logs.push(`${level} ${message} ${JSON.stringify(fields ?? {})}`),
    }
  }

  runtimeOf(base: HostBase): Runtime {
    return createRuntime({
      path: ['/nonexistent/bin'],
      cacheDir: join(this.made.root, 'var/lib/cni'),
      inProcess: { registry, host: () => base },
    })
  }

  pod(containerId: string): TestPod {
    return { containerId, netns: this.made.pod(), ifname: 'eth0' }
  }

  /** ADD with one TCP port of the host that leads to 8080. */
  add(list: ConfList, at: TestPod, hostPort?: number): Promise<JsonObject> {
    const portMappings = hostPort === undefined ? [] : [{ hostPort, containerPort: 8080, protocol: 'tcp' }]
    return this.runtime.add(list, { ...at, capabilityArgs: { portMappings } })
  }

  /** The sandbox ends, and no DEL comes. */
  end({ netns }: TestPod): void {
    deleteNetns(netns)
  }

  [Symbol.dispose](): void {
    for (const socket of this.#sockets) socket[Symbol.dispose]()
    this.made[Symbol.dispose]()
  }
}
