/** The command line of the daemon alone: the reference's, with Go's way of writing flags and times. Source: documentation of the packages flag and time. */

import { isAbsolute } from 'node:path'

import { DEFAULT_SOCKET } from '../config.ts'
import { RESEND_MAX } from '../lease/backoff.ts'

export interface DaemonFlags {
  readonly pidFile: string
  readonly hostPrefix: string
  readonly socketPath: string
  readonly broadcast: boolean
  /** ms each. */
  readonly timeout: number
  readonly resendMax: number
  readonly resendTimeout: number
}

/** A flag that is unknown or has no such value. */
export class FlagError extends Error {
  override readonly name = 'FlagError'
  readonly code: 'unknown-flag' | 'bad-value'
  readonly flag: string

  constructor(code: FlagError['code'], flag: string, message: string) {
    super(message)
    this.code = code
    this.flag = flag
  }
}

const UNITS = { ns: 1e-6, us: 1e-3, µs: 1e-3, ms: 1, s: 1000, m: 60_000, h: 3_600_000 } as const

function isUnit(text: string): text is keyof typeof UNITS {
  return Object.hasOwn(UNITS, text)
}

/** `10s`, `1m30s`, `500ms` in ms; undefined for anything else. Like Go's time.ParseDuration, without signs. */
export function parseDuration(text: string): number | undefined {
  if (text === '0') return 0
  let total = 0
  let rest = text
  while (rest !== '') {
    const [all, number = '', unit = ''] = /^(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)/.exec(rest) ?? []
    if (all === undefined || !isUnit(unit)) return undefined
    total += Number(number) * UNITS[unit]
    rest = rest.slice(all.length)
  }
  return text === '' || !Number.isFinite(total) ? undefined : total
}

const TEXTS = ['pidfile', 'hostprefix', 'socketpath', 'timeout', 'resendmax', 'resendtimeout'] as const
type TextFlag = (typeof TEXTS)[number]

function isText(name: string): name is TextFlag {
  return TEXTS.some((known) => known === name)
}

/** `-flag value`, `-flag=value`, with one dash or two. Throws `FlagError`. */
export function parseDaemonFlags(args: readonly string[]): DaemonFlags {
  const given: Partial<Record<TextFlag, string>> = {}
  let broadcast = false
  for (let i = 0; i < args.length; i++) {
    const [, name = '', , value] = /^--?([a-z]+)(=(.*))?$/s.exec(args[i] ?? '') ?? []
    if (name === 'broadcast') broadcast = truth(value)
    else if (isText(name)) {
      const text = value ?? args[++i]
      if (text === undefined) throw new FlagError('bad-value', name, `-${name} has no value`)
      given[name] = text
    } else throw new FlagError('unknown-flag', args[i] ?? '', `the daemon has no flag ${JSON.stringify(args[i])}`)
  }
  const time = (name: 'timeout' | 'resendmax' | 'resendtimeout', usual: number): number => {
    const text = given[name]
    const ms = text === undefined ? usual : parseDuration(text)
    if (ms === undefined || ms < 1 || ms > 86_400_000)
      throw new FlagError('bad-value', name, `-${name} is ${JSON.stringify(text)}: write a time such as 10s`)
    return ms
  }
  const path = (name: 'pidfile' | 'hostprefix' | 'socketpath', usual: string): string => {
    const text = given[name] ?? usual
    if (text !== '' && !isAbsolute(text))
      throw new FlagError('bad-value', name, `-${name} is ${JSON.stringify(text)}: write an absolute path`)
    return text
  }
  return {
    pidFile: path('pidfile', ''),
    hostPrefix: path('hostprefix', ''),
    socketPath: path('socketpath', DEFAULT_SOCKET) || DEFAULT_SOCKET,
    broadcast,
    timeout: time('timeout', 10_000),
    resendMax: time('resendmax', RESEND_MAX),
    resendTimeout: time('resendtimeout', 208_000),
  }
}

function truth(value: string | undefined): boolean {
  if (value === undefined || ['1', 't', 'T', 'true', 'TRUE', 'True'].includes(value)) return true
  if (['0', 'f', 'F', 'false', 'FALSE', 'False'].includes(value)) return false
  throw new FlagError('bad-value', 'broadcast', `-broadcast is ${JSON.stringify(value)}: write true or false`)
}
