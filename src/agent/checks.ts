import type { Health } from './health.ts'

/** Checks of /readyz that this part answers for. */
export const CHECKS = {
  conf: 'network-configuration',
  node: 'node',
  path: 'data-path',
  file: 'subnet-file',
  api: 'api-server',
  published: 'annotations',
  /** With leases in etcd instead of the two before. */
  etcd: 'etcd',
  lease: 'lease',
  state: 'reconciliation',
  /** A changed network configuration that is not used. */
  change: 'network-configuration-change',
  /** With the wireguard backend only. */
  key: 'wireguard-key',
  /** With the extension backend only. */
  extension: 'extension-commands',
  extensionPeers: 'extension-peers',
  /** With the backends of clouds only. */
  cloud: 'cloud-routes',
  /** With the ipsec backend only. */
  ipsec: 'ipsec-connections',
} as const

/** Those of single backends: another one has others. */
export const BACKEND_CHECKS = [CHECKS.key, CHECKS.extension, CHECKS.extensionPeers, CHECKS.cloud, CHECKS.ipsec] as const

/** Nothing is known yet; `own` are those of the datastore. */
export function expectChecks(health: Health, own: { readonly reached: string; readonly published: string }): void {
  health.expect(CHECKS.conf, 'required', 'not read yet')
  health.expect(CHECKS.node, 'required', 'nothing is known yet')
  health.expect(CHECKS.path, 'required', 'not programmed yet')
  health.expect(CHECKS.file, 'required', 'not written yet')
  health.expect(own.reached, 'degraded', 'not asked yet')
  health.expect(own.published, 'degraded', 'not published yet')
  health.expect(CHECKS.state, 'degraded', 'nothing has been compared yet')
  health.expect(CHECKS.change, 'degraded', 'not compared yet')
  health.pass(CHECKS.change)
}
