/** The agent's log: one JSON object per line on standard error. Objects of the API are never logged whole, so no secret can be. */

import pino from 'pino'

export const LOG_LEVELS = ['debug', 'info', 'warn', 'error'] as const
export type LogLevel = (typeof LOG_LEVELS)[number]

/** What parts of the agent log with; pino's loggers are such. */
export type Log = Pick<pino.Logger, LogLevel>

/** Keys whose values are never written, wherever somebody puts them. */
const SECRET = [
  'token',
  'password',
  'authorization',
  'key',
  'psk',
  'privateKey',
  'presharedKey',
  'secret',
  'clientKey',
  'client-key-data',
]

/** Writes without buffering: the last line before a crash is the one that matters. */
export function openLog(level: LogLevel, bindings: Readonly<Record<string, string>>): pino.Logger {
  return pino(
    {
      level,
      base: bindings,
      messageKey: 'message',
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: {
        paths: [...SECRET.map((key) => pathOf(key)), ...SECRET.map((key) => `*${pathOf(key, true)}`)],
        censor: '[redacted]',
      },
    },
    pino.destination({ dest: 2, sync: true }),
  )
}

const pathOf = (key: string, nested = false): string =>
  /^\w+$/.test(key) ? `${nested ? '.' : ''}${key}` : `["${key}"]`

/** A log for tests. */
export const silentLog: Log = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
}

/** What an error says, for a log line: its message and its code, without a stack. */
export function errorFields(error: unknown): { readonly error: string; readonly code?: string } {
  if (!(error instanceof Error)) return { error: String(error) }
  const code: unknown = Object.getOwnPropertyDescriptor(error, 'code')?.value
  return { error: error.message, ...(typeof code === 'string' ? { code } : {}) }
}
