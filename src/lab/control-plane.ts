/** Starts the keeper, which serves the Kubernetes API and runs the agents. */

import { spawn } from 'node:child_process'
import { closeSync, openSync, writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { ipText } from '#ip/address.ts'
import { familyOf } from '#ip/prefix.ts'
import { nativeSys } from '#sys/addon.ts'
import { check } from '#sys/errno.ts'
import { CURRENT_NETNS } from '#sys/netns.ts'
import { listenTcp } from './check/responder.ts'
import { kubeconfig } from './objects.ts'
import { netnsPath, type LabPaths } from './paths.ts'
import type { LabPlan } from './plan.ts'
import { decodeSockaddr } from './probe/sockaddr.ts'
import { MARK } from './process.ts'
import { labEnvironment, type Program } from './program.ts'
import { writeRecord, type LabRecord } from './record.ts'

/** A lab with all that belongs to it. */
export interface Lab {
  readonly record: LabRecord
  readonly plan: LabPlan
  readonly paths: LabPaths
}

export interface ControlPlane {
  readonly record: LabRecord
  readonly url: string
  /** Rejects when the keeper ends. */
  readonly ended: Promise<never>
}

const innerUrl = ({ ip, port }: LabPlan['api']): string => `http://${ip.includes(':') ? `[${ip}]` : ip}:${port}`

/** Opens the API's sockets here, so that the port is known and clients may connect at once; the keeper inherits them. */
export function startControlPlane({ record, plan, paths }: Lab, program: Program): ControlPlane {
  const sys = nativeSys()
  const log = openSync(paths.keeperLog, 'a', 0o600)
  const host = listenTcp(CURRENT_NETNS, { ip: ipText('127.0.0.1'), port: 0 }, 4)
  const fabric = listenTcp(netnsPath(plan.fabric.namespace), plan.api, familyOf(plan.api.ip))
  try {
    const address = new Uint8Array(28)
    const length = check(sys.getsockname(host, address), 'getsockname')
    const apiPort = decodeSockaddr(address.subarray(0, length))?.port ?? 0
    const url = `http://127.0.0.1:${apiPort}`
    const named: LabRecord = { ...record, apiPort }
    writeRecord(paths, named)
    writeFileSync(paths.kubeconfig, kubeconfig(plan.spec.name, url), { mode: 0o600 })
    writeFileSync(paths.innerKubeconfig, kubeconfig(plan.spec.name, innerUrl(plan.api)), {
      mode: 0o600,
    })
    const child = spawn(program.file, [...program.args, 'lab', 'keeper', '--name', plan.spec.name], {
      env: labEnvironment({ [MARK]: record.id }),
      stdio: ['ignore', log, log, host, fabric],
      // A session of its own: it outlives this command and its terminal.
      detached: true,
    })
    const ended = new Promise<never>((_, reject) => {
      child.once('error', reject)
      child.once('exit', (code, signal) => reject(new Error(`the keeper ended with ${signal ?? `exit code ${code}`}`)))
    })
    ended.catch(() => undefined)
    child.unref()
    return { record: named, url, ended }
  } finally {
    closeSync(log)
    sys.close(host)
    sys.close(fabric)
  }
}

/** Work that is pointless when the keeper ends. */
export async function whileRunning<T>(ended: Promise<never>, work: () => Promise<T>): Promise<T> {
  try {
    return await Promise.race([work(), ended])
  } catch (error) {
    // A keeper that dies is first seen as a broken connection; its end is the better reason.
    await Promise.race([ended, sleep(100)])
    throw error
  }
}
