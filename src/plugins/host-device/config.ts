/** The host-device plugin's configuration: which device of the host the pod gets. */

import { existsSync } from 'node:fs'
import { join } from 'node:path'

import * as v from 'valibot'

import { invalidConfig } from '#cni/errors.ts'
import type { PluginInput } from '#cni/plugin.ts'
import { macSchema, parseWith } from '#cni/schema.ts'
import type { MacText } from '#ip/text.ts'
import { driverOf, isBusId } from './sysfs.ts'
import { vfConf, type VfConf } from './vf-config.ts'

/** One way to name a device. */
export type Selector =
  | { readonly by: 'name'; readonly name: string }
  | { readonly by: 'mac'; readonly mac: MacText }
  | { readonly by: 'kernelpath'; readonly path: string }
  | { readonly by: 'pci'; readonly id: string }
  | { readonly by: 'auxiliary'; readonly id: string }

export interface HostDeviceConf {
  readonly what: string
  readonly selector: Selector
  /** A program of the pod drives the device, past the kernel: there is no link. */
  readonly isUserspace: boolean
  /** What its card shall enforce, where it is a virtual function. */
  readonly vf: VfConf
}

const text = v.nullish(v.string(), '')

const schema = v.object({
  device: text,
  hwaddr: v.nullish(v.union([macSchema, v.literal('')]), ''),
  kernelpath: text,
  pciBusID: text,
})

const runtimeSchema = v.object({ deviceID: text })

/** The drivers that hand a PCI device to a program (DPDK). */
const USERSPACE_DRIVERS: readonly string[] = ['vfio-pci', 'uio_pci_generic', 'igb_uio']

/** For messages. */
export const describeConf = ({ config }: PluginInput): string =>
  `host-device configuration of network ${JSON.stringify(config.name)}`

/**
 * `runtimeConfig.deviceID` goes before all, for it is what a device plugin reserved for this pod; then `device`, `hwaddr`, `kernelpath`, `pciBusID`. Throws CniError 7.
 */
export function hostDeviceConf(input: PluginInput, sysfs: string): HostDeviceConf {
  const what = describeConf(input)
  const conf = parseWith(schema, input.config.raw, what)
  const { deviceID } = parseWith(runtimeSchema, input.config.runtimeConfig, `runtimeConfig of ${what}`)
  const selector = deviceID === '' ? selectorOf(conf, what) : byDeviceId(deviceID, what, sysfs)
  const isUserspace = selector.by === 'pci' && USERSPACE_DRIVERS.includes(driverOf(sysfs, selector.id) ?? '')
  return { what, selector, isUserspace, vf: vfConf(input, what) }
}

function selectorOf({ device, hwaddr, kernelpath, pciBusID }: v.InferOutput<typeof schema>, what: string): Selector {
  if (device !== '') return { by: 'name', name: device }
  if (hwaddr !== '') return { by: 'mac', mac: hwaddr }
  if (kernelpath !== '') return { by: 'kernelpath', path: checkKernelPath(kernelpath, what) }
  if (pciBusID !== '') return { by: 'pci', id: checkBusId(pciBusID, `${what}: "pciBusID"`) }
  throw invalidConfig(
    `${what} names no device`,
    'give one of "device", "hwaddr", "kernelpath" and "pciBusID", or let the runtime give a deviceID',
  )
}

function byDeviceId(deviceId: string, what: string, sysfs: string): Selector {
  const id = checkBusId(deviceId, `${what}: runtimeConfig.deviceID`)
  if (existsSync(join(sysfs, 'bus/pci/devices', id))) return { by: 'pci', id }
  if (existsSync(join(sysfs, 'bus/auxiliary/devices', id))) return { by: 'auxiliary', id }
  throw invalidConfig(
    `${what}: runtimeConfig.deviceID ${JSON.stringify(id)} is neither a PCI nor an auxiliary device of this host`,
    'see /sys/bus/pci/devices and /sys/bus/auxiliary/devices',
  )
}

function checkBusId(id: string, field: string): string {
  if (isBusId(id)) return id
  throw invalidConfig(`${field} ${JSON.stringify(id.slice(0, 64))} is no bus id`, 'such as 0000:03:02.6')
}

function checkKernelPath(path: string, what: string): string {
  if (path.startsWith('/sys/devices/') && !path.split('/').includes('..')) return path
  throw invalidConfig(`${what}: "kernelpath" ${JSON.stringify(path)}`, 'it is absolute and below /sys/devices/')
}
