import assert from 'node:assert/strict'
import { test } from 'node:test'

import { parseNetConf } from '#flannel/net-conf.ts'
import { FakeClock } from '#sys/fake-clock.ts'
import type { ReadConf } from './conf-reader.ts'
import { ConfPoll } from './conf-poll.ts'
import { FlannelService } from './flannel-service.ts'
import { silentLog } from './log.ts'

const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))
const conf = (vni: number): ReadConf => {
  const text = `{"Network":"10.0.0.0/8","Backend":{"Type":"vxlan","VNI":${vni}}}`
  return { text, conf: parseNetConf(text) }
}
const vniOf = (read: ReadConf | undefined): string => /VNI":(\d+)/.exec(read?.text ?? '')?.[1] ?? 'first'

function open() {
  const clock = new FakeClock()
  const said: string[] = []
  const follows: ((read: ReadConf) => void)[] = []
  let failures = 0
  const service = FlannelService.open({
    begin: async (read, follow) => {
      await settle()
      if (failures-- > 0) throw new Error('not now')
      said.push(`begin ${vniOf(read)}`)
      follows.push(follow)
      return {
        [Symbol.asyncDispose]: async () => {
          await settle()
          said.push(`end ${vniOf(read)}`)
        },
      }
    },
    clock,
    random: () => 0.5,
    log: silentLog,
  })
  const follow = (vni: number): void => follows.at(-1)?.(conf(vni))
  return { service, clock, said, follow, fail: (times: number) => (failures = times) }
}

test('one life at a time; the last of many changes counts', async () => {
  const { service, said, follow } = open()
  await using _ = await service
  follow(2)
  follow(3)
  for (let i = 0; i < 10; i++) await settle()
  assert.deepEqual(said, ['begin first', 'end first', 'begin 3'])
  follow(4)
  await settle()
  follow(5)
  for (let i = 0; i < 10; i++) await settle()
  assert.deepEqual(said.slice(3), ['end 3', 'begin 4', 'end 4', 'begin 5'])
})

test('a life that cannot begin is tried again', async () => {
  const { service, clock, said, follow, fail } = open()
  await using _ = await service
  fail(2)
  follow(2)
  for (let i = 0; i < 20; i++) {
    await settle()
    clock.advance(30_000)
  }
  assert.deepEqual(said, ['begin first', 'end first', 'begin 2'])
})

test('the end waits for a change, and ends the life that came of it', async () => {
  const { service, said, follow } = open()
  const opened = await service
  follow(2)
  await opened[Symbol.asyncDispose]()
  follow(3)
  await settle()
  assert.equal(
    said.filter((word) => word.startsWith('begin')).length,
    said.filter((word) => word.startsWith('end')).length,
  )
})

test('looks at the pace that was asked for, through errors, and not after its end', async () => {
  const clock = new FakeClock()
  const heard: string[] = []
  let reads = 0
  const poll = new ConfPoll({
    read: () => (++reads === 2 ? Promise.reject(new Error('away')) : Promise.resolve(`text ${reads}`)),
    pause: 1000,
    clock,
    random: () => 0.5,
    onText: (text) => heard.push(text),
    onError: () => heard.push('error'),
  })
  for (let i = 0; i < 3; i++) {
    await settle()
    clock.advance(999)
    await settle()
    assert.equal(heard.length, i)
    clock.advance(1)
  }
  await settle()
  assert.deepEqual(heard, ['text 1', 'error', 'text 3'])
  await poll[Symbol.asyncDispose]()
  clock.advance(10_000)
  await settle()
  assert.equal(reads, 3)
})
