/**
 * Where everything in a lab's cloud is. As in any lab every number can be read from a name: worker-3 is the third VM, in network vpc-2, with 10.10.20.13;
 * service-3-1 is 10.96.3.1 and leads to pod-3-1.
 */

import { ipText, ipToBytes, parseIp } from '#ip/address.ts'
import { macFromBytes } from '#ip/mac.ts'
import { cidrText } from '#ip/prefix.ts'
import type { CidrText, IpText } from '#ip/text.ts'
import { API_PORT, locate, planPod, rackOf, type LabPlan, type NodePlan } from '../plan.ts'
import type { CloudSpec, LabSpec } from '../spec.ts'

/** A network of the tenant, with one subnet, on the router. */
export interface VpcPlan {
  readonly name: string
  readonly cidr: CidrText
  readonly gateway: IpText
}

export interface CloudPlan extends CloudSpec {
  /** The namespace of the vrouter. */
  readonly router: string
  readonly vpcs: readonly VpcPlan[]
  readonly external: {
    readonly cidr: CidrText
    /** The Internet: the namespace `outside`. */
    readonly gateway: IpText
    /** Of the router's own address and floating IPs. */
    readonly pool: { readonly start: IpText; readonly end: IpText }
  }
  /** Where the cloud's services are for those inside, beside the Kubernetes API. */
  readonly services: {
    readonly ip: IpText
    readonly identity: number
    readonly network: number
    readonly compute: number
  }
  readonly serviceCidr: CidrText
}

/** The bridge of the external network. */
export const EXTERNAL_BRIDGE = 'br-ex'
const SERVICES_IP = '172.24.4.2'

/** Plans a lab whose nodes are VMs. The specification must have been checked (`labSpec`). */
export function planCloud(spec: LabSpec, cloud: CloudSpec): LabPlan {
  const vpcs = [1, 2].map((n): VpcPlan => ({
    name: `vpc-${n}`,
    cidr: cidrText(`10.10.${n}0.0/24`),
    gateway: ipText(`10.10.${n}0.1`),
  }))
  return {
    spec,
    podNetworks: vpcs.map(({ cidr }) => cidr),
    fabric: {
      namespace: `${spec.name}-fabric`,
      switches: vpcs.map(({ name }) => ({ name, addresses: [] })),
      toOutside: [],
    },
    outside: { namespace: `${spec.name}-outside`, addresses: [locate('172.24.4.1')], routes: [], gateways: [] },
    nodes: Array.from({ length: spec.nodes }, (_, i) => planVm(spec, i + 1)),
    api: { ip: ipText(SERVICES_IP), port: API_PORT },
    cloud: {
      ...cloud,
      router: `${spec.name}-router`,
      vpcs,
      external: {
        cidr: cidrText('172.24.4.0/24'),
        gateway: ipText('172.24.4.1'),
        pool: { start: ipText('172.24.4.100'), end: ipText('172.24.4.199') },
      },
      services: { ip: ipText(SERVICES_IP), identity: 5000, network: 9696, compute: 8774 },
      serviceCidr: cidrText('10.96.0.0/16'),
    },
  }
}

function planVm(spec: LabSpec, n: number): NodePlan {
  const name = `worker-${n}`
  const vpc = rackOf(spec, n)
  const ip = `10.10.${vpc}0.${10 + n}`
  return {
    name,
    index: n,
    namespace: `${spec.name}-${name}`,
    switch: `vpc-${vpc}`,
    // Neutron's prefix, then the last three bytes of the address.
    mac: macFromBytes(Uint8Array.of(0xfa, 0x16, 0x3e, ...ipToBytes(parseIp(ip)).subarray(1))),
    underlay: [locate(ip)],
    gateways: [ipText(`10.10.${vpc}0.1`)],
    // Pods get single addresses of their VM's subnet; no range is a node's.
    podCidrs: [],
    pods: Array.from({ length: spec.podsPerNode }, (_, i) => {
      const { hostPort: _none, ...pod } = planPod(spec, name, n, i + 1)
      return pod
    }),
  }
}

/** The service in front of one pod: what kube-proxy would make of a Service with one endpoint. */
export const serviceIp = (pod: string): IpText => ipText(`10.96.${pod.replace('pod-', '').replace('-', '.')}`)
