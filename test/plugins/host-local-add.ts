/** `host-local-add.ts ROOT CONF CONTAINER [FAILPOINT]`: one ADD of host-local in a process of its own, which dies at the fail point. */

import { fakeHost } from '#cni/fake-host.ts'
import { hostLocal } from '#ipam/host-local/plugin.ts'
import { inputOf } from './input.ts'

const [, , root = '', conf = '{}', containerId = '', point = ''] = process.argv
const failpoint = (name: string): void => {
  if (name === point) process.kill(process.pid, 'SIGKILL')
}
await hostLocal.add(inputOf(JSON.parse(conf), { containerId }), { ...fakeHost(), root, failpoint })
