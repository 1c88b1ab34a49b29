/** What the fake cloud holds. Everything is in memory and gone with it. */

import { randomBytes, randomUUID } from 'node:crypto'

import type { IpText } from '#ip/address.ts'

export interface FakeNetwork extends Base {
  mtu: number
  shared: boolean
  external: boolean
}

export interface FakeSubnet extends Base {
  readonly network: string
  readonly cidr: string
  readonly family: 4 | 6
  readonly gateway: string | null
  readonly pools: readonly { readonly start: string; readonly end: string }[]
  readonly dhcp: boolean
}

export interface Fixed {
  readonly subnet_id: string
  readonly ip_address: IpText
}

export interface Pair {
  readonly ip_address: string
  readonly mac_address: string
}

export interface FakePort extends Base {
  readonly network: string
  readonly mac: string
  fixed: readonly Fixed[]
  pairs: readonly Pair[]
  security: boolean
  groups: readonly string[]
  up: boolean
  device: string
  owner: string
  host: string
  /** Made by Nova, goes with its card. */
  byNova: boolean
}

export interface RouteEntry {
  readonly destination: string
  readonly nexthop: string
}

export interface FakeRouter extends Base {
  routes: readonly RouteEntry[]
  gateway: string | undefined
}

export interface FakeFloating extends Base {
  readonly network: string
  readonly address: IpText
  port: string | undefined
  fixed: IpText | undefined
}

export interface FakeServer {
  readonly id: string
  readonly project: string
  name: string
  status: string
  readonly host: string
}

/** What all objects of Neutron have. */
export interface Base {
  readonly id: string
  name: string
  readonly project: string
  description: string
  tags: readonly string[]
  revision: number
  readonly created: string
}

export interface FakeUser {
  readonly id: string
  readonly name: string
  readonly password: string
  readonly project: string
  readonly admin: boolean
}

export interface FakeCredential {
  readonly id: string
  readonly name: string
  readonly secret: string
  readonly user: string
}

export interface Project {
  readonly id: string
  readonly name: string
}

/** Who asks. */
export interface Caller {
  readonly project: string
  readonly admin: boolean
}

export class Cloud {
  readonly networks = new Map<string, FakeNetwork>()
  readonly subnets = new Map<string, FakeSubnet>()
  readonly ports = new Map<string, FakePort>()
  readonly routers = new Map<string, FakeRouter>()
  readonly floating = new Map<string, FakeFloating>()
  readonly servers = new Map<string, FakeServer>()
  readonly users = new Map<string, FakeUser>()
  readonly projects = new Map<string, Project>()
  readonly credentials = new Map<string, FakeCredential>()
  /** By resource; what is missing has no limit. */
  readonly quotas = new Map<string, number>()

  base(project: string, name: string, description: string, now: number): Base {
    const created = new Date(now).toISOString().replace(/\.\d+Z$/, 'Z')
    return { id: randomUUID(), name, project, description, tags: [], revision: 1, created }
  }

  /** Addresses of a subnet that ports or floating IPs have. */
  taken(subnet: string): Set<string> {
    const found = new Set<string>()
    for (const port of this.ports.values()) {
      for (const fixed of port.fixed) if (fixed.subnet_id === subnet) found.add(fixed.ip_address)
    }
    for (const one of this.floating.values()) found.add(one.address)
    return found
  }

  subnetsOf(network: string): readonly FakeSubnet[] {
    return [...this.subnets.values()].filter((subnet) => subnet.network === network)
  }

  portsOf(device: string): readonly FakePort[] {
    return [...this.ports.values()].filter((port) => port.device === device)
  }
}

/** A project's or user's id: 32 digits without dashes. */
export const plainId = (): string => randomBytes(16).toString('hex')

/** As Neutron makes them: under its prefix. */
export const newMac = (): string =>
  `fa:16:3e:${[...randomBytes(3)].map((byte) => byte.toString(16).padStart(2, '0')).join(':')}`
