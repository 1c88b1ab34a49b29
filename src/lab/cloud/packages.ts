/** What a cloud of one's own needs from Debian. */

import { existsSync } from 'node:fs'

export const PROGRAMS = {
  'neutron-server': '/usr/bin/neutron-server',
  keystone: '/usr/bin/keystone-manage',
  'uwsgi-plugin-python3': '/usr/bin/uwsgi',
} as const

/** Packages that are not installed. */
export const missingPackages = (): readonly string[] =>
  Object.entries(PROGRAMS)
    .filter(([, file]) => !existsSync(file))
    .map(([name]) => name)

/** How to get packages; services would start by themselves and take the default ports, so not on a machine that is to stay as it is. */
export const installCommand = (packages: readonly string[]): string =>
  `apt-get install --no-install-recommends ${packages.join(' ')}`
