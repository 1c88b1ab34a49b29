/** An IPAM plugin that does what a case tells it, and remembers how it was called. */

import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { isObject, type JsonObject } from '#cni/json.ts'
import type { Verb } from './call.ts'
import type { Machine } from './machine.ts'

export interface Heard {
  readonly env: JsonObject
  readonly stdin: JsonObject
}

/** What it prints for a verb, and its exit code. Nothing and 0 for verbs that are not listed. */
export type Script = Readonly<Partial<Record<Verb, { readonly print?: JsonObject | string; readonly exit?: number }>>>

const FOLDER = '/run/scripted'
export const SCRIPTED = 'scripted-ipam'

/** In CommonJS and without imports of ours: it runs as a plugin does, alone. */
const program = `#!${process.execPath}
const fs = require('node:fs')
const stdin = fs.readFileSync(0, 'utf8')
const env = Object.fromEntries(Object.entries(process.env).filter(([key]) => key.startsWith('CNI_')))
fs.appendFileSync('${FOLDER}/heard', JSON.stringify({ env, stdin: JSON.parse(stdin || '{}') }) + '\\n')
const { print = '', exit = 0 } = JSON.parse(fs.readFileSync('${FOLDER}/script', 'utf8'))[process.env.CNI_COMMAND] ?? {}
process.stdout.write(typeof print === 'string' ? print : JSON.stringify(print))
process.exitCode = exit
`

export class ScriptedIpam {
  readonly #folder: string
  /** For CNI_PATH. */
  readonly path = FOLDER

  constructor(machine: Machine, script: Script) {
    this.#folder = machine.outside(FOLDER)
    mkdirSync(this.#folder, { recursive: true })
    writeFileSync(`${this.#folder}/${SCRIPTED}`, program)
    chmodSync(`${this.#folder}/${SCRIPTED}`, 0o755)
    this.does(script)
  }

  does(script: Script): void {
    writeFileSync(`${this.#folder}/script`, JSON.stringify(script))
    writeFileSync(`${this.#folder}/heard`, '')
  }

  /** The calls since the last script, oldest first. */
  heard(): readonly Heard[] {
    const lines = readFileSync(`${this.#folder}/heard`, 'utf8').split('\n')
    return lines.flatMap((line) => {
      if (line === '') return []
      const { env, stdin } = JSON.parse(line)
      return isObject(env) && isObject(stdin) ? [{ env, stdin }] : []
    })
  }

  verbs(): readonly unknown[] {
    return this.heard().map(({ env }) => env['CNI_COMMAND'])
  }
}
