import assert from 'node:assert/strict'
import { test } from 'node:test'

import fc from 'fast-check'

import { agentFlagsOf, etcdFlagsOf, FlanneldFlagError, parseFlanneldFlags } from './flanneld-flags.ts'
import { agentOptions } from './options.ts'

const flags = (args: readonly string[], env: Readonly<Record<string, string>> = {}) =>
  agentFlagsOf(parseFlanneldFlags(args, env))

test('flags as Go takes them: one dash or two, with = or a blank, switches bare', () => {
  for (const args of [
    ['--iface=eth1', '-public-ip', '192.0.2.7', '--ip-masq'],
    ['-iface', 'eth1', '--public-ip=192.0.2.7', '-ip-masq=true'],
    ['--iface', 'eth1', '--public-ip', '192.0.2.7', '--ip-masq=T'],
  ]) {
    const { iface, publicIp, ipMasq } = flags(args)
    assert.deepEqual([iface, publicIp, ipMasq], [['eth1'], '192.0.2.7', true], args.join(' '))
  }
  assert.deepEqual(flags(['-iface=a', '-iface=b', '-iface-regex=^10\\.']).iface, ['a', 'b'])
  assert.equal(flags(['--', '--ip-masq']).ipMasq, false, 'what follows -- is no flag')
})

test("flanneld's defaults, not the agent's", () => {
  const { ipMasq, ipMasqFullyRandom, iptablesForwardRules, setNodeNetworkUnavailable, healthListen, ipBlackholeRoute } =
    flags([])
  assert.deepEqual(
    { ipMasq, ipMasqFullyRandom, iptablesForwardRules, setNodeNetworkUnavailable, healthListen, ipBlackholeRoute },
    {
      ipMasq: false,
      ipMasqFullyRandom: true,
      iptablesForwardRules: true,
      setNodeNetworkUnavailable: true,
      healthListen: undefined,
      ipBlackholeRoute: false,
    },
  )
  assert.equal(flags(['--healthz-port=8081']).healthListen, '0.0.0.0:8081')
  assert.equal(flags(['--healthz-port=8081', '--healthz-ip=::']).healthListen, '[::]:8081')
  assert.equal(flags(['-v', '10']).logLevel, 'debug')
})

test('the environment fills in what the command line leaves out', () => {
  const env = { FLANNELD_IFACE: 'eth3', FLANNELD_IP_MASQ: 'true', FLANNELD_SUBNET_FILE: '/x.env' }
  assert.deepEqual(flags([], env).iface, ['eth3'])
  assert.deepEqual([flags([], env).ipMasq, flags([], env).subnetFile], [true, '/x.env'])
  assert.deepEqual(flags(['--iface=eth4', '--ip-masq=false'], env).iface, ['eth4'])
  assert.equal(flags(['--iface=eth4', '--ip-masq=false'], env).ipMasq, false)
})

test('etcd unless Kubernetes is asked for', () => {
  assert.deepEqual(etcdFlagsOf(parseFlanneldFlags(['--kube-subnet-mgr'], {})), {})
  const { etcdEndpoints, subnetLeaseRenewMargin } = flags([])
  assert.equal(etcdEndpoints, 'http://127.0.0.1:4001,http://127.0.0.1:2379')
  assert.equal(subnetLeaseRenewMargin, '60')
  const { cluster } = agentOptions(
    flags(['--etcd-endpoints=https://a:2379,https://b:2379', '--etcd-prefix', '/p/', '-etcd-keyfile=/k'], {
      FLANNELD_ETCD_USERNAME: 'u',
      FLANNELD_ETCD_PASSWORD: 'secret',
    }),
    {},
  )
  const datastore = cluster?.datastore
  assert.ok(datastore?.kind === 'etcd')
  assert.deepEqual(
    [datastore.endpoints, datastore.prefix, datastore.ttl, datastore.renewMargin, datastore.user?.name],
    [['https://a:2379', 'https://b:2379'], '/p', 86_400, 3600, 'u'],
  )
  assert.deepEqual(
    datastore.tls,
    { ca: undefined, cert: undefined, key: undefined },
    'a key without a certificate is none',
  )
  assert.doesNotMatch(JSON.stringify(cluster), /secret"/)
})

test('what is wrong is told with the flag', () => {
  const cases = [
    [['--nonsense'], 'unknown-flag', 'nonsense'],
    [['--iface'], 'missing-value', 'iface'],
    [['--ip-masq=perhaps'], 'bad-value', 'ip-masq'],
    [['--healthz-port=http'], 'bad-value', 'healthz-port'],
    [['--subnet-lease-renew-margin=1440'], 'bad-value', 'subnet-lease-renew-margin'],
  ] as const
  for (const [args, code, flag] of cases) {
    assert.throws(
      () => {
        const parsed = parseFlanneldFlags(args, {})
        agentFlagsOf(parsed)
        etcdFlagsOf(parsed)
      },
      (error) => error instanceof FlanneldFlagError && error.code === code && error.flag === flag,
      args.join(' '),
    )
  }
})

test('the manifest of flannel gives options that the agent takes', () => {
  const options = agentOptions(flags(['--ip-masq', '--kube-subnet-mgr', '--healthz-port=8081']), { NODE_NAME: 'a' })
  assert.equal(options.cluster?.ipMasq, true)
  assert.deepEqual(options.health, { kind: 'tcp', host: '0.0.0.0', port: 8081 })
})

test('whatever stands on the command line is taken or refused, and never anything else', () => {
  fc.assert(
    fc.property(fc.array(fc.string()), (args) => {
      try {
        parseFlanneldFlags(args, {})
      } catch (error) {
        assert.ok(error instanceof FlanneldFlagError)
      }
    }),
  )
})
