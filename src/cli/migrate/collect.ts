/** One reading of what flanneld has left on this node. Changes nothing. */

import { readFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import type { DaemonSet as KubeDaemonSet } from 'kubernetes-types/apps/v1.js'

import { clusterConfig, readNetConf } from '#agent/cluster.ts'
import { agentPaths } from '#agent/paths.ts'
import { agentAt, confs, subnetFile } from '#doctor/collect/cni.ts'
import { readCluster } from '#doctor/collect/cluster.ts'
import { readText } from '#doctor/collect/files.ts'
import { parseNetConf, type NetConf } from '#flannel/net-conf.ts'
import { KubeClient } from '#kube/client.ts'
import type { ClusterConfig } from '#kube/config.ts'
import { listAll } from '#kube/list.ts'
import { resource } from '#kube/resources.ts'
import { listLinks } from '#netlink/link.ts'
import { NetlinkSocket } from '#netlink/socket.ts'
import type { InstallPlan } from '../install/plan.ts'
import { readEntries, flannelDevices } from './collect-entries.ts'
import { readRules } from './collect-rules.ts'
import type { DaemonSet, Facts } from './facts.ts'
import { DROP_IN, dropInText, findProcesses, findUnit } from './flanneld.ts'

export interface CollectOptions {
  readonly root: string
  readonly kubeconfig: string | undefined
  readonly kubeApiUrl: string | undefined
  readonly node: string | undefined
  readonly netConf: string | undefined
  /** Without the root. */
  readonly confDirectory: string
  readonly binDirectory: string
  readonly install: InstallPlan | undefined
  /** The program that a drop-in for flanneld's unit shall start. */
  readonly dropIn: string | undefined
}

const TIMEOUT = 5_000

/** Throws NetlinkError where the kernel does not let this user look. */
export async function collect(options: CollectOptions): Promise<Facts> {
  const { root } = options
  const paths = agentPaths({ root })
  const config = (): ClusterConfig => clusterConfig(options.kubeconfig, options.kubeApiUrl)
  const netConf = await netConfOf(options.netConf ?? paths.netConf, options.netConf === undefined, config)
  const env = subnetFile(paths.subnetFile)
  const unit = findUnit(root)
  using socket = NetlinkSocket.open()
  const links = listLinks(socket)
  const devices = flannelDevices(links)
  const networks = typeof env.content === 'object' ? env.content.networks : networksOf(netConf.conf)
  return {
    processes: findProcesses(),
    unit,
    daemonSets: await daemonSets(config),
    netConf,
    subnetFile: env,
    devices: devices.map(({ name, info, mac, mtu }) => ({ name, kind: info?.kind ?? '', mac, mtu })),
    entries: readEntries(socket, links, networks),
    rules: await readRules(),
    confs: await confs(join(root, options.confDirectory)),
    plugins: options.binDirectory,
    install: options.install,
    cluster: await readCluster(config, options.node ?? process.env['NODE_NAME'] ?? hostname()),
    agent: await agentAt(paths.cniSocket),
    dropIn:
      options.dropIn === undefined
        ? undefined
        : {
            path: DROP_IN,
            text: unit === undefined ? undefined : dropInText(unit.command, options.dropIn),
            now: readText(join(root, DROP_IN)),
          },
  }
}

async function netConfOf(path: string, orCluster: boolean, config: () => ClusterConfig): Promise<Facts['netConf']> {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    if (!orCluster) return { path, conf: reason(error) }
    try {
      using client = new KubeClient(config(), { timeout: TIMEOUT, userAgent: 'heddle-migrate' })
      text = await readNetConf({ from: 'usual', path }, client, AbortSignal.timeout(TIMEOUT))
    } catch (failure) {
      return { path, conf: reason(failure) }
    }
  }
  try {
    return { path, conf: parseNetConf(text) }
  } catch (error) {
    return { path, conf: reason(error) }
  }
}

const networksOf = (conf: NetConf | string) => (typeof conf === 'string' ? [] : Object.values(conf.network))

const reason = (error: unknown): string => (error instanceof Error ? error.message : String(error))

const daemonSetResource = resource<KubeDaemonSet>('apps', 'v1', 'daemonsets', 'DaemonSet')

/** Those that run flanneld, or Heddle in its place. */
async function daemonSets(config: () => ClusterConfig): Promise<Facts['daemonSets']> {
  try {
    using client = new KubeClient(config(), { timeout: TIMEOUT, userAgent: 'heddle-migrate' })
    return (await listAll(client, daemonSetResource, daemonSet, { timeout: TIMEOUT })).items
  } catch (error) {
    return reason(error)
  }
}

/** Undefined for one that has nothing to do with flannel. Never throws: it comes from elsewhere. */
export function daemonSet({ metadata, spec }: KubeDaemonSet): DaemonSet | undefined {
  const containers = (spec?.template.spec?.containers ?? []).filter(
    ({ command, args, image }) =>
      /(^|\/)(flanneld|heddle)$/.test(command?.[0] ?? args?.[0] ?? '') ||
      /(^|\/)(flannel|heddle)[:@]/.test(image ?? ''),
  )
  if (containers.length === 0) return undefined
  const images = containers.map(({ image }) => image ?? '')
  const isHeddle = images.some((image) => /(^|\/)heddle[:@]/.test(image))
  return { namespace: metadata?.namespace ?? '', name: metadata?.name ?? '', images, isHeddle }
}
