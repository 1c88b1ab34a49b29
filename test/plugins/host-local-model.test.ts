/** Random sequences of what our host-local, the reference's, and crashes of ours do to one directory, held against a model of a few lines. */

import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'

import fc from 'fast-check'

import type { JsonObject } from '#cni/json.ts'
import { slowness } from '../slow.ts'
import { Worker, type Done, type Order } from './host-local-worker.ts'
import { reference, ReferenceError, referenceMissing } from './reference.ts'

/** Five addresses of the first set; nobody comes to the end of the second. */
const POOL = 5
const conf: JsonObject = {
  name: 'net1',
  type: 'host-local',
  ipam: { type: 'host-local', ranges: [[{ subnet: '10.1.2.0/29' }], [{ subnet: 'fd00:1::/64' }]] },
}

/** Addresses by their holder. A holder whose call was killed may have some of what it should, and then has that. */
type Model = Map<string, readonly string[]>

class Real implements Disposable {
  readonly root = mkdtempSync(join(tmpdir(), 'heddle-model-'))
  readonly worker = new Worker(this.root)
  readonly directory = join(this.root, 'var/lib/cni/networks/net1')

  /** What the files say. */
  onDisk(): Model {
    const found: Model = new Map()
    if (!existsSync(this.directory)) return found
    for (const name of readdirSync(this.directory).toSorted()) {
      if (/^(lock|last_reserved_ip\.\d+|\.heddle-.*)$/.test(name)) continue
      const [holder = '', ifname] = readFileSync(join(this.directory, name), 'utf8').split('\r\n')
      assert.equal(ifname, 'eth0', `${name} has an owner`)
      found.set(holder, [...(found.get(holder) ?? []), name])
    }
    return found
  }

  ours(order: Omit<Order, 'conf'>): Promise<Done | undefined> {
    return this.worker.run({ ...order, conf })
  }

  async theirs(verb: 'ADD' | 'DEL', containerId: string): Promise<Done> {
    const ipam = { ...Object(conf['ipam']), dataDir: join(this.root, 'var/lib/cni/networks') }
    try {
      const { ips } = await reference(verb, { ...conf, cniVersion: '1.0.0', ipam }, { containerId })
      const list = Array.isArray(ips) ? ips : []
      return { addresses: list.map((ip) => /"address":"([^/]*)/.exec(JSON.stringify(ip))?.[1] ?? '') }
    } catch (error) {
      if (error instanceof ReferenceError) return { code: 1, message: error.message }
      throw error
    }
  }

  [Symbol.dispose](): void {
    this.worker[Symbol.dispose]()
    rmSync(this.root, { recursive: true, force: true })
  }
}

const all = (model: Model): readonly string[] => [...model.values()].flat()
const ofFirstSet = (addresses: readonly string[]): number => addresses.filter((ip) => ip.startsWith('10.')).length

/** Every holder has exactly what the model says, and nobody else has anything. */
function agree(model: Model, real: Real): void {
  const sorted = (of: Model): readonly unknown[] =>
    [...of]
      .filter(([, ips]) => ips.length > 0)
      .map(([holder, ips]) => [holder, ips.toSorted()] as const)
      .toSorted(([a], [b]) => (a < b ? -1 : 1))
  assert.deepEqual(sorted(real.onDisk()), sorted(model))
  assert.equal(new Set(all(model)).size, all(model).length, 'no address has two holders')
}

/** Checks an ADD's answer, and enters it. */
function added(model: Model, id: string, done: Done, free = POOL - ofFirstSet(all(model))): void {
  const mayHave = (model.get(id) ?? []).length === 0 && free > 0
  if ('code' in done) return assert.ok(!mayHave, `${id} was refused: ${done.message}`)
  assert.ok(mayHave, `${id} was given ${done.addresses.join()}`)
  assert.equal(done.addresses.length, 2)
  for (const address of done.addresses) assert.ok(!all(model).includes(address), `${address} was given twice`)
  model.set(id, done.addresses)
}

/** After a crash only what the call was about may have changed, and only in its direction. */
function crashed(model: Model, real: Real, verb: Order['verb'], touched: readonly string[]): void {
  const found = real.onDisk()
  for (const id of touched) {
    const [before, now] = [model.get(id) ?? [], found.get(id) ?? []]
    const changed = verb === 'ADD' ? now.filter((ip) => !before.includes(ip)) : []
    if (verb === 'ADD') {
      for (const ip of before) assert.ok(now.includes(ip), `a killed ADD took ${ip} from ${id}`)
      for (const ip of changed) assert.ok(!all(model).includes(ip), `${ip} was given twice`)
      assert.ok(ofFirstSet(now) <= 1 && now.length <= 2, `${id} has ${now.join()}`)
    } else for (const ip of now) assert.ok(before.includes(ip), `a killed ${verb} gave ${ip} to ${id}`)
    model.set(id, now)
  }
}

type Command = fc.AsyncCommand<Model, Real>

/** A command by its name and what it does; the model and the disk are compared after each. */
const command = (name: string, run: (model: Model, real: Real) => Promise<void>): Command => ({
  check: () => true,
  run: async (model, real) => {
    await run(model, real)
    agree(model, real)
  },
  toString: () => name,
})

const id = fc.constantFrom('a', 'b', 'c', 'd', 'e', 'f', 'g')
const dieAt = fc.nat(4)

const commands = [
  id.map((of) =>
    command(`ADD ${of}`, async (model, real) => {
      const done = await real.ours({ verb: 'ADD', containerId: of })
      assert.ok(done !== undefined)
      added(model, of, done)
    }),
  ),
  id.map((of) => command(`their ADD ${of}`, async (model, real) => added(model, of, await real.theirs('ADD', of)))),
  fc.uniqueArray(id, { minLength: 2, maxLength: 2 }).map(([mine = '', other = '']) =>
    command(`ADD ${mine} beside their ADD ${other}`, async (model, real) => {
      const free = POOL - ofFirstSet(all(model))
      const [ours, theirs] = await Promise.all([
        real.ours({ verb: 'ADD', containerId: mine }),
        real.theirs('ADD', other),
      ])
      assert.ok(ours !== undefined)
      // With one left either may be the one to get it.
      const [winner, loser] = 'code' in ours ? [theirs, ours] : [ours, theirs]
      const [first, second] = 'code' in ours ? [other, mine] : [mine, other]
      added(model, first, winner, free)
      added(model, second, loser, POOL - ofFirstSet(all(model)))
    }),
  ),
  id.map((of) =>
    command(`DEL ${of}`, async (model, real) => {
      assert.deepEqual(await real.ours({ verb: 'DEL', containerId: of }), { addresses: [] })
      model.delete(of)
    }),
  ),
  id.map((of) =>
    command(`their DEL ${of}`, async (model, real) => {
      assert.deepEqual(await real.theirs('DEL', of), { addresses: [] })
      model.delete(of)
    }),
  ),
  fc.subarray(['a', 'b', 'c', 'd', 'e', 'f', 'g']).map((valid) =>
    command(`GC but ${valid.join()}`, async (model, real) => {
      assert.deepEqual(await real.ours({ verb: 'GC', containerId: '', valid }), { addresses: [] })
      for (const of of model.keys()) if (!valid.includes(of)) model.delete(of)
    }),
  ),
  fc.tuple(fc.constantFrom('ADD', 'DEL'), id, dieAt).map(([verb, of, at]) =>
    command(`${verb} ${of} killed at ${at}`, async (model, real) => {
      const done = await real.ours({ verb, containerId: of, dieAt: at })
      if (done === undefined) crashed(model, real, verb, [of])
      // It was done before it passed so many fail points.
      else if (verb === 'ADD') added(model, of, done)
      else model.delete(of)
    }),
  ),
  fc.tuple(fc.subarray(['a', 'b', 'c', 'd']), dieAt).map(([valid, at]) =>
    command(`GC but ${valid.join()} killed at ${at}`, async (model, real) => {
      const done = await real.ours({ verb: 'GC', containerId: '', valid, dieAt: at })
      const others = [...model.keys()].filter((of) => !valid.includes(of))
      if (done === undefined) crashed(model, real, 'GC', others)
      else for (const of of others) model.delete(of)
    }),
  ),
]

test(
  'ours, the reference and crashes on one directory agree with a model',
  { skip: referenceMissing, timeout: 240_000 * slowness },
  async () => {
    await fc.assert(
      fc.asyncProperty(fc.commands(commands, { maxCommands: 40, size: 'max' }), async (sequence) => {
        using real = new Real()
        await fc.asyncModelRun(() => ({ model: new Map(), real }), sequence)
      }),
      { numRuns: slowness > 1 ? 3 : 12, endOnFailure: true },
    )
  },
)
