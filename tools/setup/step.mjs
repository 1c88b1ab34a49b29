import { spawn } from 'node:child_process'

import { root, systemPath } from '../paths.mjs'
import { Problem } from './problem.mjs'

const HEARTBEAT_MS = 5_000
const KEPT_OUTPUT = 64_000

export const seconds = (ms) => `${(ms / 1000).toFixed(1)} s`

/** One piece of work, announced when it starts and when it ends, with the time it took. */
export async function step(what, work) {
  const started = Date.now()
  console.log(`setup: ${what} …`)
  const heartbeat = setInterval(() => {
    console.log(`setup: ${what}: still at work after ${seconds(Date.now() - started)}`)
  }, HEARTBEAT_MS)
  try {
    const result = await work()
    console.log(`setup: ${what}: ${seconds(Date.now() - started)}`)
    return result
  } catch (error) {
    console.log(`setup: ${what}: failed after ${seconds(Date.now() - started)}`)
    throw error
  } finally {
    clearInterval(heartbeat)
  }
}

/**
 * Runs a program to its end, without a shell and without standard input.
 *
 * @returns {Promise<{ code: number, output: string }>} code 127 where it does not exist, 124 where it took too long
 */
export function capture(command, args, { env = {}, timeoutMs = 600_000, cwd = root } = {}) {
  return new Promise((resolve) => {
    const child = spawn(command, args, {
      cwd,
      env: { ...process.env, PATH: systemPath(), ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let output = ''
    let late = false
    const keep = (chunk) => {
      output = (output + chunk).slice(-KEPT_OUTPUT)
    }
    child.stdout.setEncoding('utf8').on('data', keep)
    child.stderr.setEncoding('utf8').on('data', keep)
    const timer = setTimeout(() => {
      late = true
      child.kill('SIGKILL')
    }, timeoutMs)
    child.on('error', (error) => {
      clearTimeout(timer)
      resolve({ code: 127, output: error.message })
    })
    child.on('close', (code) => {
      clearTimeout(timer)
      if (late) resolve({ code: 124, output: `${output}\n${command} was stopped after ${seconds(timeoutMs)}` })
      else resolve({ code: code ?? 1, output })
    })
  })
}

/** Like `capture`, but a failure is a Problem that carries the last lines of the output. */
export async function mustRun(command, args, { what, remedy, ...options }) {
  const { code, output } = await capture(command, args, options)
  if (code === 0) return output
  const shown = [command, ...args].join(' ')
  throw new Problem({
    what: `${what} failed: "${shown}" ended with code ${code}`,
    why: lastLines(output, 20),
    ...(remedy === undefined ? {} : { remedy }),
  })
}

export function lastLines(text, count) {
  return text.trimEnd().split('\n').slice(-count).join('\n  ')
}
