/** From the service catalog to the URL of a service: pure. */

import type { CloudConfig, ServiceType } from './config.ts'
import { OpenStackError } from './errors.ts'
import type { CatalogEndpoint } from './identity/token.ts'

/** Types under which a service stands in catalogs, the official one first (OpenStack service-types authority). */
const TYPES: { readonly [service in ServiceType]: readonly string[] } = {
  network: ['network'],
  compute: ['compute'],
  identity: ['identity'],
}

const USUAL: { readonly [service in ServiceType]: string } = {
  network: 'Neutron',
  compute: 'Nova',
  identity: 'Keystone',
}

const list = (values: Iterable<string>): string => [...new Set(values)].join(', ') || 'none'

/**
 * The URL of a service, with a slash at the end. Neutron's gets its `v2.0`, which catalogs leave out.
 * @throws OpenStackError `no-endpoint`, with what there is instead
 */
export function endpointOf(
  config: Pick<CloudConfig, 'region' | 'interface' | 'endpoints'>,
  catalog: readonly CatalogEndpoint[],
  service: ServiceType,
): URL {
  const override = config.endpoints[service]
  return complete(service, override ?? chosen(config, catalog, service))
}

function chosen(
  config: Pick<CloudConfig, 'region' | 'interface'>,
  catalog: readonly CatalogEndpoint[],
  service: ServiceType,
): URL {
  const fail = (message: string): OpenStackError =>
    new OpenStackError('no-endpoint', message, { object: `${USUAL[service]} in the catalog` })
  const ofService = catalog.filter((endpoint) => TYPES[service].includes(endpoint.service))
  if (ofService.length === 0) {
    throw fail(`there is no service of type ${service}; there are ${list(catalog.map((one) => one.service))}`)
  }
  const ofRegion = ofService.filter(({ region }) => config.region === undefined || region === config.region)
  if (ofRegion.length === 0) {
    throw fail(`not in region "${config.region}"; its regions are ${list(ofService.map(({ region }) => region))}`)
  }
  const fitting = ofRegion.filter((endpoint) => endpoint.interface.replace(/URL$/, '') === config.interface)
  const [first] = fitting
  if (first === undefined) {
    throw fail(`no interface "${config.interface}"; there are ${list(ofRegion.map((one) => one.interface))}`)
  }
  const regions = new Set(fitting.map(({ region }) => region))
  if (regions.size > 1) throw fail(`it is in several regions (${list(regions)}): set region_name`)
  const url = URL.parse(first.url)
  if (url === null || (url.protocol !== 'http:' && url.protocol !== 'https:') || url.username !== '') {
    throw fail('its URL is no http or https URL')
  }
  return url
}

function complete(service: ServiceType, base: URL): URL {
  const url = new URL(base)
  const path = url.pathname.replace(/\/+$/, '')
  url.pathname = service === 'network' && !path.endsWith('/v2.0') ? `${path}/v2.0/` : `${path}/`
  url.search = ''
  url.hash = ''
  return url
}
