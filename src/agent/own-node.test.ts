import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'

import { annotationKeys } from '#flannel/annotations.ts'
import { backendOf } from '#flannel/backend/registry.ts'
import { localNode, peerNode } from '#flannel/fixture.ts'
import { silentLog } from './log.ts'
import { OwnNode, type NodeStatusPatch } from './own-node.ts'

const keys = annotationKeys('flannel.alpha.coreos.com')
const local = localNode()
const backend = backendOf(local.backend)
const settle = () => new Promise((resolve) => setImmediate(resolve))

function open(t: TestContext, answer: () => Promise<void>) {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const patches: NodeStatusPatch[] = []
  const outcomes: string[] = []
  const own = new OwnNode({
    node: 'node-0',
    api: {
      patchStatus: async (_node, patch) => {
        patches.push(patch)
        await answer()
      },
    },
    keys,
    log: silentLog,
    setNetworkUnavailable: true,
    onPatch: (outcome) => outcomes.push(outcome),
    random: () => 0.5,
  })
  const advance = async (ms: number) => {
    t.mock.timers.tick(ms)
    await settle()
    await settle()
  }
  return { own, patches, outcomes, advance }
}

const bare = peerNode(0, {}, { annotations: {} })
const published = peerNode(
  0,
  {},
  {
    annotations: {
      marker: 'true',
      backendType: 'vxlan',
      backendData: '{"VNI":1,"VtepMAC":"02:00:00:00:00:00"}',
      publicIp: '192.168.0.1',
    },
    networkUnavailable: 'False',
  },
)

test('one patch with all that is missing, then nothing more', async (t) => {
  const { own, patches, advance } = open(t, () => Promise.resolve())
  own.seen(bare)
  await advance(60_000)
  assert.equal(patches.length, 0, 'nothing is published before the data path is up')
  own.publish(local, backend)
  await advance(0)
  assert.equal(patches.length, 1)
  assert.deepEqual(patches[0]?.metadata?.annotations, {
    'flannel.alpha.coreos.com/kube-subnet-manager': 'true',
    'flannel.alpha.coreos.com/backend-type': 'vxlan',
    'flannel.alpha.coreos.com/backend-data': '{"VNI":1,"VtepMAC":"02:00:00:00:00:00"}',
    'flannel.alpha.coreos.com/public-ip': '192.168.0.1',
  })
  const [condition] = patches[0]?.status?.conditions ?? []
  assert.deepEqual(
    [condition?.type, condition?.status, condition?.reason],
    ['NetworkUnavailable', 'False', 'FlannelIsUp'],
  )
  own.seen(published)
  assert.equal(own.isPublished, true)
  await advance(600_000)
  assert.equal(patches.length, 1)
})

test('a Node that already says it all is not patched', async (t) => {
  const { own, patches, advance } = open(t, () => Promise.resolve())
  own.seen(published)
  own.publish(local, backend)
  await advance(60_000)
  assert.equal(patches.length, 0)
})

test('failures are retried with growing pauses, for ever', async (t) => {
  const { own, patches, outcomes, advance } = open(t, () => Promise.reject(new Error('down')))
  own.seen(bare)
  own.publish(local, backend)
  await advance(0)
  assert.equal(patches.length, 1)
  await advance(500)
  assert.equal(patches.length, 2)
  await advance(500)
  assert.equal(patches.length, 2, 'the second pause is longer')
  await advance(500)
  assert.equal(patches.length, 3)
  for (let i = 0; i < 20; i++) await advance(30_000)
  assert.ok(patches.length >= 20)
  assert.ok(outcomes.every((outcome) => outcome === 'failed'))
})

test('who changes our annotations is answered, but not at full speed', async (t) => {
  const { own, patches, advance } = open(t, () => Promise.resolve())
  own.seen(published)
  own.publish(local, backend)
  await advance(0)
  own.seen({ ...published, annotations: { ...published.annotations, publicIp: '192.0.2.1' } })
  await advance(0)
  assert.deepEqual(
    patches.map((patch) => patch.metadata?.annotations),
    [{ 'flannel.alpha.coreos.com/public-ip': '192.168.0.1' }],
  )
  for (let i = 0; i < 100; i++) {
    own.seen({ ...published, annotations: { ...published.annotations, publicIp: '192.0.2.1' } })
    await advance(10)
  }
  assert.ok(patches.length <= 3, `${patches.length} patches in a second`)
})
