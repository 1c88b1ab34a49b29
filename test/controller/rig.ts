/** A cluster and a cloud for the controller: the embedded API server, the fake cloud with a router, and nodes that are its servers. */

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'

import type { Node, Pod } from 'kubernetes-types/core/v1.js'

import { controllerOptions, type ControllerFlags } from '#controller/options.ts'
import { runController } from '#controller/run.ts'
import { KubeClient } from '#kube/client.ts'
import { events, nodes, pods } from '#kube/resources.ts'
import { startApiServer, type ApiServer } from '#kube/server/server.ts'
import type { RequestInfo } from '#kube/server/request.ts'
import { OpenStackClient } from '#openstack/client.ts'
import type { FakeOptions } from '#openstack/fake/context.ts'
import { FakeCloud } from '#openstack/fake/server.ts'
import { Ports, type Port } from '#openstack/neutron/port.ts'
import { slowness } from '../slow.ts'
import { plainConfig } from '../kube/target.ts'
import { Site } from '../openstack/site.ts'
import { userOf } from '../openstack/target.ts'

/** Waits until something is so; says what it waited for. */
export async function until(what: string, isSo: () => boolean | Promise<boolean>, seconds = 60): Promise<void> {
  const end = performance.now() + seconds * 1_000 * slowness
  while (!(await isSo())) {
    assert.ok(performance.now() < end, `waited ${seconds * slowness} s in vain: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

export const pause = (ms: number): Promise<void> => new Promise((resolve) => void setTimeout(resolve, ms))

export interface Server {
  readonly name: string
  readonly id: string
  readonly port: Port
}

/** A request of the controller's as RBAC sees it. */
export interface Asked {
  readonly verb: string
  readonly group: string
  readonly resource: string
  readonly name: string
  readonly namespace: string | undefined
}

const VERBS: Readonly<Record<string, string>> = { POST: 'create', PUT: 'update', PATCH: 'patch', DELETE: 'delete' }

const askedOf = ({ method, group, plural, name, subresource, namespace, watch }: RequestInfo): Asked => ({
  verb: VERBS[method] ?? (watch ? 'watch' : name === '' ? 'list' : 'get'),
  group,
  resource: subresource === '' ? plural : `${plural}/${subresource}`,
  name,
  namespace,
})

export class Rig {
  readonly api: ApiServer
  readonly fake: FakeCloud
  readonly kube: KubeClient
  readonly cloud: OpenStackClient
  readonly site: Site
  readonly folder: string
  router = ''
  network = ''
  subnet = ''
  external = ''
  /** Requests to the API server since `note`, the test's own included. */
  readonly asked: Asked[] = []

  private constructor(api: ApiServer, fake: FakeCloud, folder: string) {
    this.api = api
    this.fake = fake
    this.folder = folder
    this.kube = new KubeClient(plainConfig(api.urls[0] ?? ''))
    this.cloud = new OpenStackClient(userOf(fake.authUrl, 'demo', 'dpass', 'demo'))
    this.site = new Site(this.cloud)
  }

  static async start(t: TestContext, options: FakeOptions = {}): Promise<Rig> {
    const folder = mkdtempSync(join(tmpdir(), 'heddle-controller-'))
    t.after(() => rmSync(folder, { recursive: true, force: true }))
    const fake = await FakeCloud.start(options)
    t.after(() => fake[Symbol.asyncDispose]())
    fake.addUser('admin', 'secret', 'admin', true)
    fake.addUser('demo', 'dpass', 'demo')
    const api = await startApiServer({ bookmarkInterval: 200 })
    t.after(() => api.close())
    const rig = new Rig(api, fake, folder)
    t.after(() => {
      rig.kube[Symbol.dispose]()
      rig.cloud[Symbol.dispose]()
    })
    writeFileSync(join(folder, 'clouds.yaml'), cloudsYaml(fake.authUrl))
    rig.network = await rig.site.network()
    rig.subnet = await rig.site.subnet(rig.network, '10.0.0.0/16')
    using admin = new OpenStackClient(userOf(fake.authUrl, 'admin', 'secret', 'admin'))
    const outside = new Site(admin)
    rig.external = await outside.network({ 'router:external': true, shared: true })
    await outside.subnet(rig.external, '203.0.113.0/24')
    rig.router = await rig.site.router(rig.subnet, { external_gateway_info: { network_id: rig.external } })
    return rig
  }

  get cloudsFile(): string {
    return join(this.folder, 'clouds.yaml')
  }

  get apiUrl(): string {
    return this.api.urls[0] ?? ''
  }

  /** Flags of a controller that looks every second. */
  flags(more: ControllerFlags): ControllerFlags {
    return {
      kubeApiUrl: this.apiUrl,
      cloudsFile: this.cloudsFile,
      cloud: 'k8s',
      namespace: 'kube-system',
      resyncInterval: '1',
      gcInterval: '1',
      logLevel: 'error',
      ...more,
    }
  }

  /** Runs a controller in this process; the answer ends it. */
  run(t: TestContext, more: ControllerFlags): () => Promise<void> {
    const stop = new AbortController()
    const done = runController(controllerOptions(this.flags(more)), '0.0.0', stop.signal)
    const end = async (): Promise<void> => {
      stop.abort()
      await done
    }
    t.after(end)
    return end
  }

  /** From now on requests to the API server are noted. */
  note(): void {
    this.api.faults.inject({
      action: { kind: 'delay', ms: 0 },
      match: (request) => {
        if (request.plural !== '') this.asked.push(askedOf(request))
        return false
      },
    })
  }

  /** A Node that is a server of the cloud, with addresses for its pods on its port. */
  async node(name: string, address: string, podIps: readonly string[] = []): Promise<Server> {
    const project = [...this.fake.cloud.projects.values()].find((one) => one.name === 'demo')?.id ?? ''
    const { id } = this.fake.addServer(project, name)
    const port = await new Ports(this.cloud).create({
      network_id: this.network,
      fixed_ips: [address, ...podIps].map((ip) => ({ subnet_id: this.subnet, ip_address: ip as never })),
      device_id: id,
      device_owner: 'compute:nova',
    })
    const node: Node = { metadata: { name }, spec: { providerID: `openstack:///${id}` } }
    await this.kube.create(nodes, node)
    await this.kube.patch(
      nodes,
      { name },
      { type: 'merge', body: { status: { addresses: [{ type: 'InternalIP', address }] } } },
      { subresource: 'status' },
    )
    return { name, id, port }
  }

  async pod(
    name: string,
    node: string,
    ip: string,
    annotations: Readonly<Record<string, string>> = {},
  ): Promise<string> {
    const pod: Pod = {
      metadata: { name, namespace: 'default', annotations: { ...annotations } },
      spec: { nodeName: node, containers: [{ name: 'c', image: 'i' }] },
    }
    const made = await this.kube.create(pods, pod)
    const status = { phase: 'Running', podIP: ip, podIPs: [{ ip }], conditions: [{ type: 'Ready', status: 'True' }] }
    await this.kube.patch(
      pods,
      { name, namespace: 'default' },
      { type: 'merge', body: { status } },
      { subresource: 'status' },
    )
    return made.metadata.uid
  }

  async remove(name: string): Promise<void> {
    await this.kube.delete(pods, { name, namespace: 'default' }, { gracePeriodSeconds: 0 })
  }

  /** `destination nexthop`, sorted; from the cloud itself, whatever its API is made to answer. */
  async routes(): Promise<readonly string[]> {
    await Promise.resolve()
    const routes = this.fake.cloud.routers.get(this.router)?.routes ?? []
    return routes.map((one) => `${one.destination} ${one.nexthop}`).toSorted()
  }

  async hasRoutes(...expected: readonly string[]): Promise<void> {
    await until(
      `routes ${expected.join(', ')}`,
      async () => (await this.routes()).join() === expected.toSorted().join(),
    )
  }

  /** Changes of the router so far. */
  get writes(): readonly string[] {
    return this.fake.requests.flatMap(({ method, path }) =>
      method === 'PUT' && path.includes('extraroutes') ? [path.split('/').at(-1) ?? ''] : [],
    )
  }

  async reasons(): Promise<readonly string[]> {
    const { items } = await this.kube.list(events)
    return items.map(({ reason }) => reason ?? '').toSorted()
  }
}

const cloudsYaml = (authUrl: string): string => `clouds:
  k8s:
    auth: {auth_url: '${authUrl}', username: demo, password: dpass, project_name: demo}
    region_name: RegionOne
`
