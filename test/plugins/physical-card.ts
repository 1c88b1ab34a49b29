/** The network card of the virtual machine, for one test file at a time. */

import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'

import { parseMac } from '#ip/mac.ts'
import { lockFile } from '#sys/flock.ts'
import { needsRoot } from '../namespace.ts'

/** Of the card that tools/vm/machine.mjs gives the virtual machine. No other one is touched. */
export const CARD = parseMac('52:54:00:68:65:64')

/** ms that another file may use it. */
const PATIENCE = 280_000

/** Held until this process ends. */
async function claimed(): Promise<boolean> {
  if (process.env['HEDDLE_TEST_SLOW'] !== undefined) {
    await lockFile('/run/heddle-test-card.lock', { timeoutMs: PATIENCE })
    execFileSync('modprobe', ['virtio_net'])
  }
  return readdirSync('/sys/class/net').some(
    (name) => readFileSync(`/sys/class/net/${name}/address`, 'utf8').trim() === CARD,
  )
}

export const noCard: string | false =
  needsRoot || ((await claimed()) ? false : 'needs the network card of the virtual machine: runs in test/vm')
