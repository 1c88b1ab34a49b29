/** A kubelet's side of the container runtime interface: gRPC over HTTP/2 on a unix socket. Source: k8s.io/cri-api, runtime/v1/api.proto. */

import { once } from 'node:events'
import { connect as connectSession, constants, type ClientHttp2Session } from 'node:http2'
import { connect } from 'node:net'

import { slowness } from '../slow.ts'
import { encode, mapFields, Message, type Field } from './proto.ts'

/** What a kubelet waits for a sandbox. */
const CALL_LIMIT_MS = 60_000 * slowness

export interface PortMapping {
  readonly hostPort: number
  readonly containerPort: number
  readonly hostIp?: string
  readonly protocol?: 'TCP' | 'UDP'
}

export interface PodConfig {
  readonly name: string
  readonly ports?: readonly PortMapping[]
  readonly annotations?: Readonly<Record<string, string>>
  readonly cgroupParent?: string
  /** Counted up for a sandbox that takes the place of another. */
  readonly attempt?: number
}

export interface PodStatus {
  readonly ready: boolean
  readonly ip: string
  readonly otherIps: readonly string[]
  /** What containerd says beside: `info` holds the namespace's path and the CNI result. */
  readonly info: unknown
}

/** A call that was refused. */
export class CriError extends Error {
  override readonly name = 'CriError'
  /** The status code of gRPC. */
  readonly code: number

  constructor(method: string, code: number, message: string) {
    super(`${method}: ${message} (${code})`)
    this.code = code
  }
}

const podConfig = (pod: PodConfig): readonly Field[] => [
  [
    1,
    [
      [1, pod.name],
      [2, `uid-${pod.name}`],
      [3, 'default'],
      [4, pod.attempt ?? 0],
    ],
  ],
  [2, pod.name],
  ...(pod.ports ?? []).map((port): Field => [
    5,
    [
      [1, port.protocol === 'UDP' ? 1 : 0],
      [2, port.containerPort],
      [3, port.hostPort],
      [4, port.hostIp ?? ''],
    ],
  ]),
  ...mapFields(7, pod.annotations ?? {}),
  [8, [[1, pod.cgroupParent ?? '']]],
]

export class Cri implements Disposable {
  readonly #session: ClientHttp2Session

  constructor(socketPath: string) {
    this.#session = connectSession('http://localhost', { createConnection: () => connect(socketPath) })
    // Each call tells its own error.
    this.#session.on('error', () => {})
  }

  /** Starts a pod's sandbox; its id. */
  async run(pod: PodConfig): Promise<string> {
    return (await this.#call('RunPodSandbox', [[1, podConfig(pod)]])).text(1)
  }

  async stop(id: string): Promise<void> {
    await this.#call('StopPodSandbox', [[1, id]])
  }

  async remove(id: string): Promise<void> {
    await this.#call('RemovePodSandbox', [[1, id]])
  }

  async status(id: string): Promise<PodStatus> {
    const answer = await this.#call('PodSandboxStatus', [
      [1, id],
      [2, true],
    ])
    const status = answer.message(1)
    const network = status.message(5)
    const info: unknown = JSON.parse(answer.map(2).get('info') ?? 'null')
    const otherIps = network.messages(2).map((ip) => ip.text(1))
    return { ready: status.number(3) === 0, ip: network.text(1), otherIps, info }
  }

  /** Is the runtime's network ready, and if not, why? `config` is what it has loaded. */
  async network(): Promise<{ readonly ready: boolean; readonly message: string; readonly config: string }> {
    const answer = await this.#call('Status', [[1, true]])
    const condition = answer
      .message(1)
      .messages(1)
      .find((one) => one.text(1) === 'NetworkReady')
    const config = answer.map(2).get('cniconfig') ?? ''
    return { ready: condition?.number(2) === 1, message: condition?.text(4) ?? '', config }
  }

  async #call(method: string, fields: readonly Field[]): Promise<Message> {
    const stream = this.#session.request({
      [constants.HTTP2_HEADER_METHOD]: 'POST',
      [constants.HTTP2_HEADER_PATH]: `/runtime.v1.RuntimeService/${method}`,
      'content-type': 'application/grpc',
      te: 'trailers',
    })
    const ended = once(stream, 'close', { signal: AbortSignal.timeout(CALL_LIMIT_MS) })
    // An answer without a body has its status in the headers.
    let status: Readonly<Record<string, unknown>> = {}
    stream.on('response', (headers) => (status = { ...status, ...headers }))
    stream.on('trailers', (headers) => (status = { ...status, ...headers }))
    const chunks: Buffer[] = []
    stream.on('data', (chunk: Buffer) => chunks.push(chunk))
    const body = encode(fields)
    const head = Buffer.alloc(5)
    head.writeUInt32BE(body.length, 1)
    stream.end(Buffer.concat([head, body]))
    await ended
    const code = Number(status['grpc-status'] ?? 2)
    if (code !== 0) {
      const message = status['grpc-message']
      throw new CriError(method, code, typeof message === 'string' ? decodeURIComponent(message) : 'no answer')
    }
    return new Message(Buffer.concat(chunks).subarray(5))
  }

  [Symbol.dispose](): void {
    this.#session.destroy()
  }
}
