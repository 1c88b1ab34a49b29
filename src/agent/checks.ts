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
