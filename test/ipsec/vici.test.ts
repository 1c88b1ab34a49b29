/** What charon really answers: connections and keys come, stay, change and go; a charon that dies is told all again. No tunnel is needed for that. */

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'

import { IpsecRunner } from '#agent/ipsec/runner.ts'
import { silentLog } from '#agent/log.ts'
import type { IpsecConf } from '#flannel/ipsec/conf.ts'
import { localNode } from '#flannel/fixture.ts'
import type { Lease } from '#flannel/lease.ts'
import { ipText } from '#ip/address.ts'
import { cidrText } from '#ip/prefix.ts'
import { systemClock } from '#sys/clock.ts'
import { Secret } from '#sys/secret.ts'
import { ViciClient } from '#vici/client.ts'
import type { ViciSection } from '#vici/message.ts'
import { until } from '../agent/cluster.ts'
import { TestNetns } from '../namespace.ts'
import { Charon, needsCharon } from './charon.ts'

const conf: IpsecConf = {
  type: 'ipsec',
  psk: new Secret(Buffer.from('0123456789abcdef'.repeat(6))),
  udpEncap: false,
  espProposal: 'aes128gcm16-sha256-prfsha256-ecp256',
}

const lease = (i: number, ip = `192.168.0.${i + 1}`): Lease => ({
  node: `node-${i}`,
  4: { subnet: cidrText(`10.244.${i}.0/24`), publicIp: ipText(ip), data: { kind: 'none' } },
})

test('the runner and a real charon', { skip: needsCharon }, async () => {
  using netns = new TestNetns('hdll')
  const folder = mkdtempSync(join(tmpdir(), 'hdll-vici-'))
  const charon = new Charon(netns.path, folder, join(folder, 'charon.vici'))
  const states: (string | undefined)[] = []
  const runner = new IpsecRunner({
    conf,
    socket: charon.socket,
    clock: systemClock,
    log: silentLog,
    onChange: () => undefined,
    onState: (trouble) => void states.push(trouble),
  })
  const ask = async (command: string, event?: string): Promise<readonly ViciSection[]> => {
    using client = await ViciClient.open(charon.socket)
    return event === undefined ? [await client.call(command)] : await client.list(command, event)
  }
  const names = async (): Promise<string> =>
    (await ask('list-conns', 'list-conn'))
      .flatMap((conn) => [...conn.keys()])
      .toSorted()
      .join(' ')
  const is = (wanted: string): Promise<number> =>
    until(`charon has ${wanted}`, async () => (await names()) === wanted || `${await names()} ${states.at(-1)}`, 15_000)
  try {
    runner.setLocal(localNode({ conf }))
    runner.setPeer('node-1', lease(1))
    await until('its absence is told', () => states.some((state) => state?.includes('strongSwan runs')))
    assert.notEqual(runner.absent, undefined)
    charon.start()
    await is('heddle-10.244.1.0-24')
    await until('it is told', () => runner.absent === undefined)
    const [conn] = await ask('list-conns', 'list-conn')
    const settings = conn?.get('heddle-10.244.1.0-24')
    assert.ok(settings instanceof Map)
    assert.deepEqual([settings.get('version'), settings.get('remote_addrs')], ['IKEv2', ['192.168.0.2']])
    const keys = (await ask('get-shared'))[0]?.get('keys')
    assert.deepEqual(keys, ['heddle-10.244.1.0-24'])

    using other = await ViciClient.open(charon.socket)
    await assert.rejects(other.call('no-such-command'), { code: 'unknown' })
    await assert.rejects(other.call('load-conn', new Map([['x', new Map([['nonsense', '7']])]])), { code: 'refused' })
    const foreign = new Map([['theirs', new Map([['remote_addrs', ['192.0.2.99']]])]])
    await other.call('load-conn', foreign)

    runner.setPeer('node-2', lease(2))
    runner.setPeer('node-1', lease(1, '192.168.0.99'))
    await is('heddle-10.244.1.0-24 heddle-10.244.2.0-24 theirs')
    runner.setPeer('node-1', undefined)
    await is('heddle-10.244.2.0-24 theirs')
    assert.deepEqual((await ask('get-shared'))[0]?.get('keys'), ['heddle-10.244.2.0-24'])

    await charon.stop('SIGKILL')
    charon.start()
    await is('heddle-10.244.2.0-24')
    assert.doesNotMatch(charon.log, /0123456789abcdef/)
  } catch (error) {
    throw new Error(`${String(error)}\n${charon.log.slice(-3000)}`, { cause: error })
  } finally {
    await runner[Symbol.asyncDispose]()
    await charon.stop('SIGKILL')
    rmSync(folder, { recursive: true, force: true })
  }
})
