/** Which network devices belong to a piece of hardware. Source: Documentation/ABI/testing/sysfs-bus-pci, sysfs-class-net. `sysfs` is where sysfs is mounted. */

import { readdirSync, readlinkSync, realpathSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'

import { hasCode } from '#sys/errno.ts'

/** `0000:03:02.6`, `mlx5_core.sf.4`: a name in a folder of sysfs, and no way out of it. */
export const isBusId = (id: string): boolean => /^[A-Za-z0-9_:.-]{1,128}$/.test(id) && id !== '.' && id !== '..'

/** The driver that a PCI device is bound to; undefined without one. */
export function driverOf(sysfs: string, pci: string): string | undefined {
  try {
    return basename(readlinkSync(join(sysfs, 'bus/pci/devices', pci, 'driver')))
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined
    throw error
  }
}

/** The network devices of a PCI device, or of the virtio device in it. Only those of the mount's own network namespace are seen. */
export function netDevicesOfPci(sysfs: string, pci: string): readonly string[] {
  const folder = join(sysfs, 'bus/pci/devices', pci)
  const own = names(join(folder, 'net'))
  if (own.length > 0) return own
  return names(folder)
    .filter((name) => name.startsWith('virtio'))
    .flatMap((name) => names(join(folder, name, 'net')))
}

/** The network devices of a device on the auxiliary bus (a subfunction). */
export const netDevicesOfAuxiliary = (sysfs: string, id: string): readonly string[] =>
  names(join(sysfs, 'bus/auxiliary/devices', id, 'net'))

/** The network devices of a device by its path below /sys/devices. */
export const netDevicesAt = (sysfs: string, path: string): readonly string[] =>
  names(join(sysfs, path.slice('/sys/'.length), 'net'))

/** The PCI device of a link that is seen here; undefined for one without. */
export function pciOf(sysfs: string, link: string): string | undefined {
  try {
    const device = realpathSync(join(sysfs, 'class/net', link, 'device'))
    // A virtio device is one of the PCI device's children.
    return basename(device).startsWith('virtio') ? basename(dirname(device)) : basename(device)
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENOTDIR')) return undefined
    throw error
  }
}

/** Which virtual function of which physical one a PCI device is; undefined for any other device. */
export function functionOf(sysfs: string, pci: string): { readonly pf: string; readonly vf: number } | undefined {
  const folder = join(sysfs, 'bus/pci/devices', pci, 'physfn')
  const entry = names(folder).find((name) => /^virtfn\d+$/.test(name) && linkName(join(folder, name)) === pci)
  const [pf] = names(join(folder, 'net'))
  return entry === undefined || pf === undefined ? undefined : { pf, vf: Number(entry.slice('virtfn'.length)) }
}

const linkName = (path: string): string => basename(readlinkSync(path))

function names(folder: string): readonly string[] {
  try {
    return readdirSync(folder).sort()
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENOTDIR')) return []
    throw error
  }
}
