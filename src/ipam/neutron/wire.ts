/** What plugin and daemon say to each other: one JSON object on a line each way, over a unix socket. */

import * as v from 'valibot'

import { CniError, decodingFailure } from '#cni/errors.ts'
import { cidrSchema, ipNetSchema, ipSchema, macSchema } from '#cni/schema.ts'

/** No call and no answer comes near it: a GC names at most some hundred attachments. */
export const MAX_LINE = 1 << 20

const name = v.pipe(v.string(), v.minLength(1), v.maxLength(255))
const attachment = v.object({ containerId: name, ifname: name })
const common = { network: name }

const CallSchema = v.variant('verb', [
  v.object({
    verb: v.literal('ADD'),
    ...common,
    ...attachment.entries,
    subnetIds: v.pipe(v.array(name), v.maxLength(64), v.readonly()),
  }),
  v.object({ verb: v.literal('DEL'), ...common, ...attachment.entries }),
  v.object({ verb: v.literal('CHECK'), ...common, ...attachment.entries }),
  v.object({ verb: v.literal('STATUS'), ...common }),
  v.object({ verb: v.literal('GC'), ...common, valid: v.pipe(v.array(attachment), v.maxLength(8_192)) }),
])
export type Call = v.InferOutput<typeof CallSchema>

const Grant = v.object({
  address: ipNetSchema,
  gateway: v.optional(ipSchema),
  mac: v.optional(macSchema),
  mtu: v.optional(v.number()),
  subnet: v.optional(cidrSchema),
})
/** One address as a pod is told it. */
export type Grant = v.InferOutput<typeof Grant>

const AnswerSchema = v.union([
  v.object({ ok: v.literal(true), grants: v.pipe(v.array(Grant), v.readonly()) }),
  v.object({ ok: v.literal(false), code: v.number(), msg: v.string(), details: v.optional(v.string()) }),
])
export type Answer = v.InferOutput<typeof AnswerSchema>

export const lineOf = (message: Call | Answer): string => `${JSON.stringify(message)}\n`

export const answerOf = (error: CniError): Answer => ({
  ok: false,
  code: error.code,
  msg: error.msg,
  ...(error.details === undefined ? {} : { details: error.details }),
})

function read<T>(line: string, schema: v.GenericSchema<unknown, T>, what: string): T {
  let raw: unknown
  try {
    raw = JSON.parse(line)
  } catch {
    throw decodingFailure(`${what} is not JSON`)
  }
  const parsed = v.safeParse(schema, raw)
  if (parsed.success) return parsed.output
  const [issue] = parsed.issues
  throw decodingFailure(`${what} is malformed at ${v.getDotPath(issue) ?? 'its root'}`, issue.message.slice(0, 200))
}

/** Throws CniError 6. */
export const readCall = (line: string): Call => read(line, CallSchema, 'the call')
/** Throws CniError 6 for what is no answer, and the error that an answer holds. */
export function readAnswer(line: string): readonly Grant[] {
  const answer = read(line, AnswerSchema, "the daemon's answer")
  if (answer.ok) return answer.grants
  throw new CniError(answer.code, answer.msg, answer.details)
}
