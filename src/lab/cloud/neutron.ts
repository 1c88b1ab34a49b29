/** A real Neutron without agents: ML2, SQLite, no broker. What its agents would do, the lab's vrouter does. */

import { writeFileSync } from 'node:fs'
import { PROGRAMS } from './packages.ts'
import { WAL, type Servers } from './servers.ts'

export interface NeutronOptions {
  /** The port that it listens on. */
  readonly port: number
  /** Keystone, which it asks about tokens, as user `neutron` of project `service`. */
  readonly keystone: string
  readonly password: string
}

/** The physical network that the external network lies on. */
export const PHYSICAL_NETWORK = 'external'

const configuration = (dir: string, { port, keystone, password }: NeutronOptions): string => `[DEFAULT]
auth_strategy = keystone
bind_host = 127.0.0.1
bind_port = ${port}
core_plugin = ml2
service_plugins = router,trunk,revisions,timestamp,tag,network_ip_availability
transport_url = fake:///
rpc_workers = 0
rpc_state_report_workers = 0
api_workers = 0
state_path = ${dir}
notify_nova_on_port_status_changes = false
notify_nova_on_port_data_changes = false
api_paste_config = /etc/neutron/api-paste.ini
[database]
connection = sqlite:///${dir}/neutron.sqlite
[oslo_concurrency]
lock_path = ${dir}/lock
[oslo_messaging_notifications]
driver = noop
[quotas]
quota_port = -1
quota_network = -1
quota_subnet = -1
quota_router = -1
quota_floatingip = -1
quota_security_group = -1
[ml2]
type_drivers = flat,local,vxlan
tenant_network_types = vxlan
mechanism_drivers = linuxbridge
extension_drivers = port_security
[ml2_type_flat]
flat_networks = ${PHYSICAL_NETWORK}
[ml2_type_vxlan]
vni_ranges = 1:1000
[experimental]
linuxbridge = true
[keystone_authtoken]
www_authenticate_uri = ${keystone}
auth_url = ${keystone}
auth_type = password
project_domain_name = Default
user_domain_name = Default
project_name = service
username = neutron
password = ${password}
`

/** Its migrations cannot run on SQLite: the tables of the newest schema are made from its models. */
const TABLES = `
import sys
from sqlalchemy import create_engine
from neutron.db.migration.models import head
head.get_metadata().create_all(create_engine('sqlite:///' + sys.argv[1]))`

/** Makes the database; needs no Keystone. */
export async function prepareNeutron(servers: Servers, options: NeutronOptions): Promise<void> {
  const [conf, file] = [servers.file('neutron.conf'), servers.file('neutron.sqlite')]
  writeFileSync(conf, configuration(servers.directory, options), { mode: 0o600 })
  await servers.python(TABLES, file)
  await servers.prepare('/usr/bin/neutron-db-manage', ['--config-file', conf, 'stamp', 'heads'])
  await servers.python(WAL, file)
}

/** Starts what `prepareNeutron` made, on another port if need be, and waits until it answers. */
export async function startNeutron(servers: Servers, options: NeutronOptions): Promise<void> {
  const conf = servers.file('neutron.conf')
  writeFileSync(conf, configuration(servers.directory, options), { mode: 0o600 })
  servers.start('neutron', PROGRAMS['neutron-server'], [
    '--config-file',
    conf,
    '--log-file',
    servers.file('neutron.log'),
  ])
  await servers.until('neutron', `http://127.0.0.1:${options.port}/`)
}
