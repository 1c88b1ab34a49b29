import { invalidConfig } from '#cni/errors.ts'

/** A name that the kernel accepts (dev_valid_name, net/core/dev.c): 1 to 15 bytes, no "/", ":" or white space. Throws CniError 7 naming `field`. */
export function checkInterfaceName(name: string, field: string): string {
  if (name !== '' && name !== '.' && name !== '..' && Buffer.byteLength(name) <= 15 && !/[/:\s\0]/.test(name))
    return name
  throw invalidConfig(
    `${field} ${JSON.stringify(name.slice(0, 64))} is no interface name`,
    'it has 1 to 15 bytes and neither "/", ":" nor white space',
  )
}
