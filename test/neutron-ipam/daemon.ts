/** The daemon as a process of its own, to be killed: `node daemon.ts '{"ipam":…,"root":…,"card":…,"authUrl":…}'`. */

import * as v from 'valibot'

import { failpoints } from '#cni/runtime/host.ts'
import { jsonObject, ipSchema, macSchema } from '#cni/schema.ts'
import { ipamConf } from '#ipam/neutron/config.ts'
import { openIpamService } from '#ipam/neutron/service.ts'
import { userOf } from '../openstack/target.ts'

const Given = v.object({
  ipam: jsonObject,
  root: v.string(),
  authUrl: v.string(),
  card: v.object({ interface: v.string(), mac: macSchema, addresses: v.array(ipSchema) }),
})

const { ipam, root, card, authUrl } = v.parse(Given, JSON.parse(process.argv[2] ?? ''))
process.stdin.resume().once('close', () => process.exit())
await openIpamService({
  conf: ipamConf(ipam, root, 'test'),
  cloud: userOf(authUrl, 'demo', 'dpass', 'demo'),
  card: () => card,
  failpoint: failpoints(process.env),
  log: (level, message, fields) => void process.stderr.write(`${level} ${message} ${JSON.stringify(fields)}\n`),
})
process.stdout.write('ready\n')
