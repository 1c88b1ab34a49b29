import { accessSync, constants, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

import { Problem } from './problem.mjs'

/** A process that lives, by number and start time: a number alone may have been given to somebody else since. */
function identity(pid) {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return `${pid} ${stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]}`
  } catch {
    return undefined
  }
}

function holderOf(file) {
  try {
    return readFileSync(file, 'utf8').trim()
  } catch (error) {
    if (error.code === 'ENOENT') return undefined
    throw error
  }
}

const alive = (holder) => holder !== '' && identity(holder.split(' ')[0]) === holder

function tryTake(file, me) {
  // O_EXCL: one of all that try makes the file. Between making and writing it is empty for a moment.
  try {
    writeFileSync(file, me, { flag: 'wx' })
    return true
  } catch (error) {
    if (error.code === 'EEXIST') return false
    throw error
  }
}

function makeFolder(folder) {
  try {
    mkdirSync(folder, { recursive: true })
    accessSync(folder, constants.W_OK)
  } catch (error) {
    throw new Problem({
      what: `cannot write to ${folder}`,
      why: error.message,
      remedy: 'use a checkout that belongs to you, or run this as its owner',
    })
  }
}

/**
 * Runs `work` while no other process holds the lock file. A lock whose holder is dead is taken over.
 *
 * @param {string} file
 * @param {() => Promise<T>} work
 * @template T
 */
export async function withLock(file, work, { timeoutMs = 900_000, pollMs = 200 } = {}) {
  makeFolder(dirname(file))
  const me = identity(process.pid) ?? `${process.pid} 0`
  const deadline = Date.now() + timeoutMs
  let told = false
  let emptySince
  while (!tryTake(file, me)) {
    const holder = holderOf(file)
    if (holder === undefined) continue
    emptySince = holder === '' ? (emptySince ?? Date.now()) : undefined
    const dead = holder === '' ? Date.now() - emptySince > 2_000 : !alive(holder)
    if (dead) {
      discard(file, holder)
      continue
    }
    if (!told) console.log(`setup: waiting for process ${holder.split(' ')[0]}, which is setting up this checkout`)
    told = true
    if (Date.now() > deadline) {
      throw new Problem({
        what: `${file} is still held by process ${holder.split(' ')[0]}`,
        why: `it was waited for ${timeoutMs / 1000} s`,
        remedy: 'look at what that process does; end it, and start again',
      })
    }
    await sleep(pollMs)
  }
  try {
    return await work()
  } finally {
    rmSync(file, { force: true })
  }
}

/** Moves a dead holder's file away; put back if, between reading and moving, somebody alive took the lock. */
function discard(file, holder) {
  const aside = `${file}.${process.pid}`
  try {
    renameSync(file, aside)
  } catch (error) {
    if (error.code === 'ENOENT') return
    throw error
  }
  const moved = holderOf(aside) ?? ''
  if (moved !== holder && alive(moved)) renameSync(aside, file)
  else rmSync(aside, { force: true })
}
