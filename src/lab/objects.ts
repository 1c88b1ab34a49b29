/** The lab as Kubernetes objects: what a control plane and its kubelets would have written. */

import type { ConfigMap, Namespace, Node, NodeCondition, Pod, PodStatus } from 'kubernetes-types/core/v1.js'
import type { IpText } from '#ip/text.ts'
import { cniConf, jsonText, netConf } from './network.ts'
import { POD_PORT, type LabPlan, type NodePlan, type PodPlan } from './plan.ts'

export const FLANNEL_NAMESPACE = 'kube-flannel'
export const FLANNEL_CONFIGMAP = 'kube-flannel-cfg'
export const POD_NAMESPACE = 'default'
const VERSION = 'v1.33.0-heddle-lab'

export const flannelNamespace = (): Namespace => ({ metadata: { name: FLANNEL_NAMESPACE } })

/** As flannel's manifest has it. */
export const flannelConfigMap = (plan: LabPlan): ConfigMap => ({
  metadata: { name: FLANNEL_CONFIGMAP, namespace: FLANNEL_NAMESPACE, labels: { app: 'flannel', tier: 'node' } },
  data: { 'net-conf.json': jsonText(netConf(plan)), 'cni-conf.json': jsonText(cniConf()) },
})

/**
 * A node that has just registered: not ready for want of a pod network, and NetworkUnavailable, as a cloud marks it. The agent clears
 * that; `readyNode` is what a kubelet writes then.
 */
export function nodeObject(node: NodePlan, now: Date): Node {
  const [podCIDR] = node.podCidrs
  return {
    metadata: {
      name: node.name,
      labels: {
        'kubernetes.io/hostname': node.name,
        'kubernetes.io/os': 'linux',
        'kubernetes.io/arch': process.arch === 'x64' ? 'amd64' : process.arch,
        'topology.kubernetes.io/zone': node.switch,
      },
    },
    spec: { ...(podCIDR === undefined ? {} : { podCIDR }), podCIDRs: [...node.podCidrs] },
    status: {
      addresses: [
        ...node.underlay.map(({ ip }) => ({ type: 'InternalIP', address: ip })),
        { type: 'Hostname', address: node.name },
      ],
      capacity: { pods: '110' },
      allocatable: { pods: '110' },
      conditions: [
        condition('NetworkUnavailable', 'True', 'NoRouteCreated', 'The agent has not programmed this node yet', now),
        condition(
          'Ready',
          'False',
          'KubeletNotReady',
          'container runtime network not ready: NetworkPluginNotReady: cni plugin not initialized',
          now,
        ),
      ],
      nodeInfo: {
        architecture: process.arch === 'x64' ? 'amd64' : process.arch,
        bootID: '',
        containerRuntimeVersion: 'heddle-lab://1',
        kernelVersion: '',
        kubeProxyVersion: VERSION,
        kubeletVersion: VERSION,
        machineID: '',
        operatingSystem: 'linux',
        osImage: 'network namespace',
        systemUUID: '',
      },
    },
  }
}

/** The condition of a node whose container runtime can make pods. */
export const readyCondition = (now: Date): NodeCondition =>
  condition('Ready', 'True', 'KubeletReady', 'kubelet is posting ready status', now)

/** What a cloud's controller says of a node whose networks are there. */
export const networkCondition = (now: Date): NodeCondition =>
  condition('NetworkUnavailable', 'False', 'NeutronIsUp', "The node's port is bound", now)

/** True once the node's agent has cleared the condition that the node was registered with. */
export const isNetworkAvailable = (node: Node): boolean =>
  node.status?.conditions?.some(({ type, status }) => type === 'NetworkUnavailable' && status === 'False') ?? false

/** A pod, scheduled and waiting for its sandbox. */
export const podObject = (pod: PodPlan): Pod => ({
  metadata: { name: pod.name, namespace: POD_NAMESPACE, labels: { app: 'lab' } },
  spec: {
    nodeName: pod.node,
    containers: [
      {
        name: 'namespace',
        image: 'heddle.invalid/network-namespace',
        ...(pod.hostPort === undefined
          ? {}
          : {
              ports: ['TCP', 'UDP'].map((protocol) => ({
                name: `echo-${protocol.toLowerCase()}`,
                containerPort: POD_PORT,
                protocol,
                ...(pod.hostPort === undefined ? {} : { hostPort: pod.hostPort }),
              })),
            }),
      },
    ],
  },
})

/** What a kubelet writes once the pod's sandbox has its addresses. */
export function runningStatus(node: NodePlan, ips: readonly IpText[], now: Date): PodStatus {
  const time = timestamp(now)
  const [podIP] = ips
  return {
    phase: 'Running',
    startTime: time,
    conditions: ['PodScheduled', 'Initialized', 'ContainersReady', 'Ready'].map((type) => ({
      type,
      status: 'True',
      lastTransitionTime: time,
    })),
    ...(podIP === undefined ? {} : { podIP }),
    podIPs: ips.map((ip) => ({ ip })),
    hostIP: node.underlay[0]?.ip ?? '',
    hostIPs: node.underlay.map(({ ip }) => ({ ip })),
    containerStatuses: [
      {
        name: 'namespace',
        image: 'heddle.invalid/network-namespace',
        imageID: '',
        ready: true,
        restartCount: 0,
        started: true,
        state: { running: { startedAt: time } },
      },
    ],
  }
}

function condition(type: string, status: string, reason: string, message: string, now: Date): NodeCondition {
  const time = timestamp(now)
  return { type, status, reason, message, lastHeartbeatTime: time, lastTransitionTime: time }
}

/** RFC 3339 in whole seconds, as the API writes times. */
const timestamp = (now: Date): string => now.toISOString().replace(/\.\d+Z$/, 'Z')

/** A kubeconfig for `kubectl`, in JSON, which is YAML. */
export const kubeconfig = (lab: string, server: string): string =>
  jsonText({
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: lab, cluster: { server } }],
    users: [{ name: lab, user: {} }],
    contexts: [{ name: lab, context: { cluster: lab, user: lab, namespace: POD_NAMESPACE } }],
    'current-context': lab,
  })
