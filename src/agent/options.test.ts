import assert from 'node:assert/strict'
import { test } from 'node:test'

import { FlannelError } from '#flannel/errors.ts'
import { agentOptions, type AgentFlags } from './options.ts'

test('defaults', () => {
  const { paths, cluster, health } = agentOptions({}, { NODE_NAME: 'worker-1' })
  assert.deepEqual(paths, {
    root: '',
    cniSocket: '/run/heddle/cni.sock',
    dhcpSocket: '/run/cni/dhcp.sock',
    subnetFile: '/run/flannel/subnet.env',
    netConf: '/etc/kube-flannel/net-conf.json',
    snapshot: '/var/lib/heddle/flannel.json',
    lock: '/run/heddle/agent.lock',
    relaySocket: '/run/heddle/relay.sock',
    extension: '/var/lib/heddle/extension.json',
    cloudRoutes: '/var/lib/heddle/cloud-routes.json',
    charon: '/run/charon.vici',
    wireguardKey: '/var/lib/heddle/wgkey',
    flannelWireguardKey: '/run/flannel/wgkey',
  })
  assert.equal(cluster?.node, 'worker-1')
  const { datastore } = cluster
  assert.ok(datastore.kind === 'kubernetes')
  assert.deepEqual(datastore.netConf, { from: 'usual', path: '/etc/kube-flannel/net-conf.json' })
  assert.deepEqual(
    [cluster.ipMasq, cluster.randomFully, datastore.setNetworkUnavailable, health],
    [true, true, true, undefined],
  )
})

test('everything under one root, except what is named', () => {
  const { paths } = agentOptions({ cniOnly: true, root: '/srv/a', socket: '/tmp/s' }, {})
  assert.deepEqual(
    [paths.root, paths.cniSocket, paths.subnetFile, paths.snapshot, paths.lock],
    [
      '/srv/a',
      '/tmp/s',
      '/srv/a/run/flannel/subnet.env',
      '/srv/a/var/lib/heddle/flannel.json',
      '/srv/a/run/heddle/agent.lock',
    ],
  )
})

const refused: readonly (readonly [AgentFlags, string])[] = [
  [{}, 'node-name'],
  [{ nodeName: 'a/b' }, 'node-name'],
  [{ nodeName: 'n', publicIp: '2001:db8::1' }, 'public-ip'],
  [{ nodeName: 'n', publicIpv6: '192.0.2.1' }, 'public-ipv6'],
  [{ nodeName: 'n', ifaceCanReach: 'gateway' }, 'iface-can-reach'],
  [{ nodeName: 'n', netConfigMap: 'kube-flannel-cfg' }, 'net-config-map'],
  [{ nodeName: 'n', netConfigMap: 'a/b', netConfigPath: '/x' }, 'net-config-map'],
  [{ nodeName: 'n', kubeAnnotationPrefix: 'x' }, 'kube-annotation-prefix'],
  [{ nodeName: 'n', healthListen: 'nowhere' }, 'health-listen'],
  [{ nodeName: 'n', logLevel: 'loud' }, 'log-level'],
  [{ etcdEndpoints: 'ftp://x' }, 'etcd-endpoints'],
  [{ etcdEndpoints: 'http://a:1,http://b:2/path' }, 'etcd-endpoints'],
  [{ etcdEndpoints: 'http://a:1', etcdPrefix: '/' }, 'etcd-prefix'],
  [{ etcdEndpoints: 'http://a:1', etcdCertfile: '/c' }, 'etcd-keyfile'],
  [{ etcdEndpoints: 'http://a:1', etcdKeyfile: '/k' }, 'etcd-certfile'],
  [{ etcdEndpoints: 'http://a:1', etcdPassword: 'x' }, 'etcd-username'],
  [{ etcdEndpoints: 'http://a:1', subnetLeaseRenewMargin: '1440' }, 'subnet-lease-renew-margin'],
  [{ etcdEndpoints: 'http://a:1', subnetLeaseTtl: '9' }, 'subnet-lease-ttl'],
]
for (const [flags, field] of refused) {
  test(`refused with the flag's name: ${JSON.stringify(flags)}`, () => {
    assert.throws(
      () => agentOptions(flags, {}),
      (error) => error instanceof FlannelError && error.field === field && error.remedy !== '',
    )
  })
}
