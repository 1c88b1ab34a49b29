/** The plugin dhcp: a lease from a real server, dnsmasq, over a link that a pod already has. */

import type { Case } from '../case.ts'
import { existsSync, readFileSync } from 'node:fs'
import { slowness } from '../../slow.ts'
import { Failed } from '../call.ts'
import { Broken } from '../machine.ts'
import type { Pod } from '../pod.ts'
import { addressesOf, readResult } from '../shape.ts'
import type { Subject } from '../subject.ts'
import { demand, type Trial } from '../trial.ts'
import { inPod, wrongIpam } from './damage.ts'

const SOCKET = '/run/cni/dhcp.sock'
const LEASES = '/run/dnsmasq-leases.log'
const WAIT_MS = 10_000 * slowness

const server = [
  ['dnsmasq', '--keep-in-foreground', '--conf-file=/dev/null', '--no-hosts', '--no-resolv', '--port=0', '--no-ping'],
  ['--interface=lan0', '--bind-interfaces', '--dhcp-range=10.77.0.10,10.77.0.200,255.255.255.0,2m'],
  [`--dhcp-leasefile=${LEASES}`, '--dhcp-authoritative', '--user=root', '--pid-file=/run/dnsmasq.pid'],
  ['--dhcp-option=option:router,10.77.0.1', '--dhcp-option=option:dns-server,10.77.0.53'],
].flat()

async function until(what: string, look: () => boolean): Promise<void> {
  const deadline = Date.now() + WAIT_MS
  while (!look()) {
    if (Date.now() > deadline) throw new Broken(`not within ${WAIT_MS / 1000} s: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

async function withLan(trial: Trial): Promise<void> {
  const ip = (...args: string[]): Promise<string> => trial.machine.do('ip', ...args)
  await ip('link', 'add', 'lan0', 'type', 'bridge')
  await ip('address', 'add', '10.77.0.1/24', 'dev', 'lan0')
  await ip('link', 'set', 'lan0', 'up')
}

async function withServer(trial: Trial): Promise<void> {
  await withLan(trial)
  trial.machine.start(server)
  await until('dnsmasq is there', () => existsSync(trial.machine.outside('/run/dnsmasq.pid')))
}

/** The plugin's daemon, unless what already runs is one. */
async function withDaemon(trial: Trial): Promise<void> {
  const socket = trial.machine.outside(SOCKET)
  if (existsSync(socket)) return
  await trial.machine.do('mkdir', '-p', '/run/cni')
  trial.machine.start([`${trial.target.directory}/dhcp`, 'daemon'])
  await until(`the daemon of dhcp listens on ${SOCKET}`, () => existsSync(socket))
}

async function wired(trial: Trial, pod: Pod): Promise<undefined> {
  const name = pod.netns.slice('/run/netns/'.length)
  const host = `wire${pod.n}`
  await trial.machine.do('ip', 'link', 'add', host, 'type', 'veth', 'peer', 'name', pod.ifname, 'netns', name)
  await trial.machine.do('ip', 'link', 'set', host, 'master', 'lan0', 'up')
  await inPod(trial, pod, 'link', 'set', pod.ifname, 'up')
}

export const dhcp: Subject = {
  type: 'dhcp',
  role: 'ipam',
  programs: { dnsmasq: 'dnsmasq-base' },
  makesLink: false,
  keepsState: false,
  prepare: async (trial) => {
    await withServer(trial)
    await withDaemon(trial)
  },
  before: wired,
  after: (t, pod) => t.machine.run(['ip', 'link', 'delete', `wire${pod.n}`]),
  conf: () => ({ type: 'dhcp', ipam: { type: 'dhcp' } }),
  damages: [],
  refusals: [
    wrongIpam('option', 'an option that has no name', { type: 'dhcp', request: [{ option: 'no-such-option' }] }),
    wrongIpam('provide', 'a provided option that has no name', {
      type: 'dhcp',
      provide: [{ option: 'no-such-option', value: 'x' }],
    }),
  ],
}

const leases = (t: Trial): string => {
  try {
    return readFileSync(t.machine.outside(LEASES), 'utf8')
  } catch {
    return ''
  }
}

async function lease(t: Trial): Promise<void> {
  const [one, two] = [await t.pod(dhcp), await t.pod(dhcp)]
  const addresses = [...addressesOf(await one.add()), ...addressesOf(await two.add())]
  demand(addresses.length === 2 && addresses[0] !== addresses[1], `the addresses are ${addresses.join(', ')}`)
  demand(
    addresses.every((address) => /^10\.77\.0\.\d+\/24$/.test(address)),
    `the addresses are ${addresses.join(', ')}`,
  )
  const { ips, routes } = readResult(one.result ?? {})
  demand(ips[0]?.gateway === '10.77.0.1', `the gateway is ${String(ips[0]?.gateway)}`)
  demand(
    routes.some(({ dst, gw }) => dst === '0.0.0.0/0' && gw === '10.77.0.1'),
    'there is no default route',
  )
}

/** The lease's address on the interface, as a main plugin sets it: what the client says goodbye from. */
async function leased(t: Trial, pod: Pod): Promise<string> {
  const [address = ''] = addressesOf(await pod.add())
  await inPod(t, pod, 'address', 'add', address, 'dev', pod.ifname)
  return address.split('/')[0] ?? ''
}

async function released(t: Trial): Promise<void> {
  const pod = await t.pod(dhcp)
  const ip = await leased(t, pod)
  demand(leases(t).includes(ip), 'the server knows nothing of the lease')
  await pod.del()
  const deadline = Date.now() + WAIT_MS
  while (leases(t).includes(ip)) {
    if (Date.now() > deadline) throw new Failed('the server still holds the lease after DEL')
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

async function again(t: Trial): Promise<void> {
  const pod = await t.pod(dhcp)
  const first = addressesOf(await pod.add())
  await pod.del()
  await t.replug(dhcp, pod)
  const second = addressesOf(await pod.add())
  demand(first.length === 1 && second.length === 1, 'an ADD gave no address')
}

async function noServer(t: Trial): Promise<void> {
  await withLan(t)
  await withDaemon(t)
  const pod = await t.podOf({ type: 'dhcp', ipam: { type: 'dhcp' } })
  await wired(t, pod)
  await pod.refused('ADD', { deadlineMs: 60_000 * slowness }, [], 'without a server')
}

async function noDaemon(t: Trial): Promise<void> {
  const ipam = { type: 'dhcp', daemonSocketPath: '/run/absent.sock' }
  const pod = await t.podOf({ type: 'dhcp', ipam })
  await pod.refused('ADD', {}, [], 'without a daemon')
}

async function statusNoDaemon(t: Trial): Promise<void> {
  const ipam = { type: 'dhcp', daemonSocketPath: '/run/absent.sock' }
  const pod = await t.podOf({ type: 'dhcp', ipam })
  await pod.refused('STATUS', {}, [50, 51], 'without a daemon')
}

async function collected(t: Trial): Promise<void> {
  const [kept, stale] = [await t.pod(dhcp), await t.pod(dhcp)]
  const [held, ip] = [await leased(t, kept), await leased(t, stale)]
  await kept.gc([kept])
  const deadline = Date.now() + WAIT_MS
  while (leases(t).includes(ip)) {
    if (Date.now() > deadline) throw new Failed('the server still holds the lease after GC')
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  demand(leases(t).includes(held), 'the lease of the valid attachment is gone')
}

const of = (id: string, basis: Case['basis'], asserts: string, run: Case['run'], since?: '1.1.0'): Case => ({
  plugin: 'dhcp',
  programs: { dnsmasq: 'dnsmasq-base' },
  id: `dhcp/${id}`,
  basis,
  asserts,
  run,
  ...(since === undefined ? {} : { since }),
})

export const dhcpCases: readonly Case[] = [
  of('lease', 'REF', 'two pods get two leases, with gateway and default route', lease),
  of('released', 'REF', 'DEL gives the lease back to the server', released),
  of('again', 'REF', 'ADD after DEL gets a lease again', again),
  of('no-server', 'SPEC', 'ADD without a server fails in less than a minute', noServer),
  of('no-daemon', 'SPEC', 'ADD without a daemon is an error', noDaemon),
  of('status', 'SPEC', 'STATUS without a daemon is code 50 or 51', statusNoDaemon, '1.1.0'),
  of(
    'gc',
    'SPEC',
    'GC gives the leases back of attachments that are not listed, and keeps the others',
    collected,
    '1.1.0',
  ),
]
