/** `heddle migrate flannel` on a node as flanneld leaves it: what it tells, what it changes, and that it can be taken back, killed at any step. */

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { copyFileSync, existsSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'

import { needsProgram, needsRoot } from '../namespace.ts'
import { until } from '../agent/cluster.ts'
import { FlannelNode, type Ran } from './flannel-node.ts'

const skip = needsRoot || needsProgram('iptables', 'iptables')
const DROP_IN = '/etc/systemd/system/flanneld.service.d/zz-heddle.conf'
const STALE = ['10.244.9.0/24 via 10.244.9.0 dev flannel.1', '10.244.9.0 lladdr', '02:00:00:00:00:09 dst 192.168.7.9']

interface Told {
  readonly steps: readonly {
    readonly part: string
    readonly object: string
    readonly fate: string
    readonly note?: string
    readonly count?: number
  }[]
  readonly applied: boolean
}

async function told(node: FlannelNode, ...args: readonly string[]): Promise<Told> {
  const ran = await node.run(['--json', ...args])
  const value: Told = JSON.parse(ran.out)
  return value
}

const fates = ({ steps }: Told, part: string): readonly string[] =>
  steps.filter((step) => step.part === part).map(({ fate, object }) => `${fate} ${object}`)

const fine = (ran: Ran): Ran => {
  assert.equal(ran.code, 0, `${ran.err}${ran.out}`)
  return ran
}

const wasKilled = ({ code, signal }: Ran): boolean => signal === 'SIGKILL' || code === 137

describe('heddle migrate flannel', { skip }, () => {
  test('tells of each thing what becomes of it, and changes nothing', async () => {
    await using node = new FlannelNode()
    await node.serve()
    const before = node.state()
    const plan = await told(node)
    assert.equal(plan.applied, false)
    assert.deepEqual(fates(plan, 'route'), ['take-over flannel.1', `remove ${STALE[0]}`])
    assert.deepEqual(fates(plan, 'neighbour'), [
      'take-over flannel.1',
      'remove 10.244.9.0 lladdr 02:00:00:00:00:09 dev flannel.1',
    ])
    assert.deepEqual(fates(plan, 'fdb'), ['take-over flannel.1', `remove ${STALE[2]} dev flannel.1`])
    assert.equal(plan.steps.find(({ part }) => part === 'route')?.count, 2)
    assert.deepEqual(fates(plan, 'device'), ['take-over flannel.1 vxlan 02:00:00:00:00:01 mtu 1450'])
    assert.deepEqual(fates(plan, 'iptables'), [
      'take-over iptables-nft nat FLANNEL-POSTRTG',
      'take-over iptables-nft filter FLANNEL-FWD',
    ])
    assert.deepEqual(fates(plan, 'conflist'), [`keep ${node.root}/etc/cni/net.d/10-flannel.conflist`])
    assert.ok(fates(plan, 'plugin').includes('replace /opt/cni/bin/bridge'))
    assert.ok(fates(plan, 'plugin').includes('create /opt/cni/bin/portmap'))
    assert.deepEqual(fates(plan, 'unit'), ['by-hand /etc/systemd/system/flanneld.service'])
    assert.match(fates(plan, 'net-conf')[0] ?? '', /^keep .*\(vxlan, 10\.244\.0\.0\/16\)$/)
    assert.match(fates(plan, 'subnet-file')[0] ?? '', /^take-over .*\(10\.244\.1\.0\/24\)$/)
    assert.deepEqual(node.state(), before)
    assert.match((await node.run(['--plan'])).out, /its node is gone/)
    assert.match((await node.run(['--lang', 'zh'])).out, /所属节点已不存在/)
    assert.deepEqual(node.state(), before)
  })

  test('applies, again without a change, and back byte for byte', async () => {
    await using node = new FlannelNode()
    await node.serve()
    const before = node.state()
    fine(await node.run(['--apply', '--systemd', '/opt/heddle/bin/heddle']))
    const after = node.state()
    for (const text of STALE)
      assert.equal(
        Object.values(after).some((value) => !value.startsWith('600 ') && value.includes(text)),
        false,
        text,
      )
    assert.match(after['route'] ?? '', /10\.244\.77\.0\/24 via 192\.168\.7\.254/, 'what bears a mark of others stays')
    assert.match(after['route'] ?? '', /10\.244\.2\.0\/24 via 10\.244\.2\.0/)
    assert.match(after['/opt/cni/bin/bridge'] ?? '', /heddle-cni-shim/)
    assert.equal(after['nft'], before['nft'])
    assert.equal(after['/etc/cni/net.d/10-flannel.conflist'], before['/etc/cni/net.d/10-flannel.conflist'])
    assert.match(
      after[DROP_IN] ?? '',
      /^644 #.*\n\[Service\]\nExecStart=\nExecStart=\/opt\/heddle\/bin\/heddle flanneld --ip-masq +--kube-subnet-mgr \$OPTIONS\n$/,
    )
    fine(await node.run(['--apply', '--systemd', '/opt/heddle/bin/heddle']))
    assert.deepEqual(node.state(), after)
    fine(await node.run(['--back']))
    assert.deepEqual(node.state(), before)
    assert.equal(existsSync(join(node.root, DROP_IN, '..')), false)
    assert.match(fine(await node.run(['--back'])).out, /nothing was migrated/)
  })

  for (const rules of ['iptables', 'nftables'] as const)
    test(`then the agent does what the list says, and the way back is open: ${rules}`, async () => {
      await using node = new FlannelNode(rules)
      await node.serve()
      const before = node.state()
      const device = node.netns.json('ip', 'link', 'show', 'flannel.1')[0]
      fine(await node.run(['--apply']))
      const agent = node.startAgent()
      const ended = new Promise((resolve) => agent.once('exit', resolve))
      try {
        const route = (): string => node.netns.run('ip', 'route', 'show', '10.244.2.0/24')
        await until('the routes are taken over', () => /proto 20\d/.test(route()), 20_000)
        await until('flannel has its rules no more, or they are kept', () => {
          const ruleset = node.netns.run('nft', 'list', 'ruleset')
          return rules === 'iptables' ? ruleset.includes('10.244.1.0/24') : !ruleset.includes('flannel-ipv')
        })
        const after = node.netns.json('ip', 'link', 'show', 'flannel.1')[0]
        assert.deepEqual([after?.['ifindex'], after?.['address']], [device?.['ifindex'], device?.['address']])
        assert.equal(fates(await told(node), 'route').length, 0, 'nothing is left of what flanneld marked')
      } finally {
        agent.kill()
        await ended
      }
      const back = fine(await node.run(['--back']))
      if (rules === 'nftables') assert.match(back.out, /nft delete table inet heddle_flannel/)
      for (const path of ['/opt/cni/bin/bridge', '/opt/cni/bin/flannel', '/etc/cni/net.d/10-flannel.conflist'])
        assert.equal(node.state()[path], before[path], path)
    })

  test('killed at any step of --apply and of --back: --back brings everything back', async () => {
    await using node = new FlannelNode()
    await node.serve()
    const before = node.state()
    const apply = ['--apply', '--no-plugins', '--systemd', '/opt/heddle/bin/heddle']
    fine(await node.run(apply))
    const complete = node.state()
    fine(await node.run(['--back']))
    let step = 0
    for (; ; step++) {
      const env = { HEDDLE_FAILPOINT: `migrate.${step}` }
      const died = await node.run(apply, env)
      if (step % 2 === 0) {
        fine(await node.run(apply))
        assert.deepEqual(node.state(), complete, `completed after step ${step}`)
      }
      const diedAgain = await node.run(['--back'], env)
      fine(await node.run(['--back']))
      assert.deepEqual(node.state(), before, `back after step ${step}`)
      if (!wasKilled(died) && !wasKilled(diedAgain)) break
    }
    assert.ok(step >= 6, `${step} steps`)
  })

  test('without a cluster, or with one that does not know this node, nobody is called gone', async () => {
    await using alone = new FlannelNode()
    const plan = await told(alone)
    assert.deepEqual(fates(plan, 'route'), ['unknown flannel.1'])
    await using stranger = new FlannelNode()
    await stranger.serve({ own: false })
    assert.deepEqual(fates(await told(stranger), 'fdb'), ['unknown flannel.1'])
    const before = stranger.state()
    fine(await stranger.run(['--apply', '--no-plugins']))
    assert.deepEqual(stranger.state(), before)
  })

  test('a network configuration that cannot be read is in the way, unless it is in etcd', async () => {
    await using node = new FlannelNode()
    node.write('/etc/kube-flannel/net-conf.json', '{"Network":"10.244.0.0/33"}')
    assert.match(fates(await told(node), 'net-conf')[0] ?? '', /^problem /)
    node.write(
      '/etc/systemd/system/flanneld.service',
      '[Service]\nExecStart=/bin/flanneld -etcd-endpoints=http://x:2379\n',
    )
    assert.match(fates(await told(node), 'net-conf')[0] ?? '', /^unknown /)
  })

  test('nftables of flannel, a running flanneld, a drop-in of others', async () => {
    await using node = new FlannelNode('nftables')
    await node.serve()
    const program = join(node.build, 'flanneld')
    copyFileSync('/bin/sleep', program)
    const flanneld = spawn('nsenter', [`--net=${node.netns.path}`, program, '60'], { stdio: 'ignore' })
    try {
      node.write(
        '/etc/systemd/system/flanneld.service.d/20-own.conf',
        '[Service]\nExecStart=\nExecStart=/usr/bin/wrapper -x\n',
      )
      await new Promise((resolve) => flanneld.once('spawn', resolve))
      const plan = await waitFor(
        () => told(node, '--systemd'),
        (seen) => fates(seen, 'process').length > 0,
      )
      assert.deepEqual(fates(plan, 'process'), [`by-hand flanneld (${flanneld.pid}) 60`])
      assert.deepEqual(fates(plan, 'nftables'), ['agent-removes ip flannel-ipv4', 'agent-removes ip6 flannel-ipv6'])
      assert.deepEqual(fates(plan, 'drop-in'), [`problem ${DROP_IN}`])
      const before = node.state()
      const refused = await node.run(['--apply', '--systemd'])
      assert.equal(refused.code, 1)
      assert.match(refused.err, /1 in the way/)
      assert.deepEqual(node.state(), before)
    } finally {
      flanneld.kill('SIGKILL')
    }
  })

  test('what somebody changed meanwhile is theirs; plugins that were installed before stay', async () => {
    await using node = new FlannelNode()
    await node.serve()
    fine(await node.run(['--apply', '--systemd', '/opt/heddle/bin/heddle']))
    node.write(DROP_IN, '[Service]\nNice=1\n')
    node.netns.run('ip', 'route', 'add', '10.244.9.0/24', 'via', '192.168.7.9')
    assert.match(fine(await node.run(['--back'])).out, /changed since/)
    assert.equal(readFileSync(join(node.root, DROP_IN), 'utf8'), '[Service]\nNice=1\n')
    assert.match(node.netns.run('ip', 'route', 'show', '10.244.9.0/24'), /via 192\.168\.7\.9 dev eth0/)
    rmSync(join(node.root, DROP_IN))
    rmSync(join(node.root, 'var/lib/heddle'), { recursive: true, force: true })
    node.write('/var/lib/heddle/cni-install.json', { version: 1, heddle: '0', files: [], disabled: [] })
    const before = node.state()
    node.netns.run('ip', 'route', 'del', '10.244.9.0/24')
    const plan = await told(node)
    assert.deepEqual(fates(plan, 'plugin'), ['keep /opt/cni/bin'])
    fine(await node.run(['--apply']))
    fine(await node.run(['--back']))
    assert.equal(node.state()['/var/lib/heddle/cni-install.json'], before['/var/lib/heddle/cni-install.json'])
  })

  test('a journal that is damaged is not guessed at; two wishes are one too many', async () => {
    await using node = new FlannelNode()
    node.write('/var/lib/heddle/migrate-flannel.json', '{"version":1,"entries":"x"}')
    const ran = await node.run(['--back'])
    assert.equal(ran.code, 1)
    assert.match(ran.err, /not what this version writes/)
    assert.equal((await node.run(['--apply', '--back'])).code, 2)
  })
})

async function waitFor<T>(look: () => Promise<T>, isDone: (seen: T) => boolean): Promise<T> {
  for (let tries = 0; ; tries++) {
    const seen = await look()
    if (isDone(seen) || tries > 20) return seen
  }
}
