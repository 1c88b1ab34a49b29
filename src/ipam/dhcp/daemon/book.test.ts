import assert from 'node:assert/strict'
import { appendFileSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'

import { ipText } from '#ip/address.ts'
import { cidrText } from '#ip/prefix.ts'
import { parseMac } from '#ip/mac.ts'
import { FakeClock } from '#sys/fake-clock.ts'
import { journalLine } from '#sys/journal.ts'
import { bookPathOf, LeaseBook } from './book.ts'
import { fromWall, toWall, type LeaseRecord } from './record.ts'

function pathIn(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'heddle-dhcp-'))
  t.after(() => rmSync(folder, { recursive: true }))
  return join(folder, 'dhcp.leases')
}

const recordOf = (key: string, boot: string): LeaseRecord => ({
  boot,
  key,
  containerId: 'c',
  network: 'n',
  ifname: 'eth0',
  netns: '/run/netns/x',
  netnsId: '1:2',
  index: 2,
  mac: parseMac('02:00:00:00:00:01'),
  requested: [1, 3],
  provided: [[12, '6869']],
  priority: 0,
  families: [4, 6],
  rapidCommit: false,
  clientId: 'text',
  broadcast: false,
  isReleasing: false,
  lease4: {
    address: ipText('10.0.0.5'),
    length: 24,
    server: ipText('10.0.0.1'),
    routes: [{ dst: cidrText('0.0.0.0/0'), gw: ipText('10.0.0.1') }],
    dns: { nameservers: ['10.0.0.53'] },
    renewAt: 1,
    rebindAt: 2,
    expiresAt: 3,
  },
  intent6: { addresses: [ipText('fd00::5')], server: '0001' },
})

test('what was put is there after reopening, what was dropped is not, and another boot’s is nobody’s', async (t) => {
  const path = pathIn(t)
  {
    await using book = await LeaseBook.open(path)
    await book.put(recordOf('a', book.boot))
    await book.put(recordOf('b', book.boot))
    await book.put({ ...recordOf('b', book.boot), isReleasing: true })
    await book.put(recordOf('c', book.boot))
    await book.drop('c')
    await book.put(recordOf('old', 'another boot'))
  }
  appendFileSync(path, journalLine({ put: { key: 'torn' } }))
  await using again = await LeaseBook.open(path)
  assert.deepEqual([...again.records.keys()], ['a', 'b'])
  assert.deepEqual(again.records.get('a'), recordOf('a', again.boot))
  assert.equal(again.records.get('b')?.isReleasing, true)
})

test('one process has it at a time', async (t) => {
  const path = pathIn(t)
  await using _book = await LeaseBook.open(path)
  await assert.rejects(LeaseBook.open(path), { code: 11, message: /another DHCP daemon has/ })
})

test('it does not grow without end', async (t) => {
  const path = pathIn(t)
  await using book = await LeaseBook.open(path)
  for (let i = 0; i < 600; i++) await book.put(recordOf('a', book.boot))
  assert.ok(readFileSync(path, 'utf8').split('\n').length < 300)
  assert.equal(book.records.size, 1)
})

test('times cross processes by the clock on the wall', () => {
  const [before, after] = [new FakeClock(1_000_000), new FakeClock(1_060_000)]
  const lease = { renewAt: 50_000, expiresAt: 100_000 }
  assert.deepEqual(fromWall(toWall(lease, before), after), { renewAt: -10_000, expiresAt: 40_000 })
  assert.deepEqual(toWall({}, before), {})
  assert.equal(bookPathOf('/run/cni/dhcp.sock'), '/run/cni/dhcp.leases')
})
