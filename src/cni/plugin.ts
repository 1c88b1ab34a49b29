/** What a CNI plugin is to Heddle: five verbs over typed input, with everything it may touch handed to it. */

import type { NetlinkSocket } from '#netlink/socket.ts'
import type { ChainsNote, RulesNote } from './attachment/record.ts'
import type { NetConf } from './config.ts'
import type { Result } from './result.ts'

/** One attachment of one container to one network, as the runtime named it. */
export interface Attachment {
  readonly containerId: string
  readonly ifname: string
}

/** A verb's input after the shell has checked it: environment, configuration and, where the verb has one, the previous result. */
export interface PluginInput {
  readonly containerId: string
  /** Path of the container's network namespace; '' where the runtime gave none (allowed for DEL, always so for GC and STATUS). */
  readonly netns: string
  readonly ifname: string
  /** CNI_ARGS, unknown keys included. */
  readonly args: ReadonlyMap<string, string>
  /** CNI_PATH, split. */
  readonly path: readonly string[]
  readonly config: NetConf
  readonly prevResult?: Result
}

export interface GcInput extends PluginInput {
  /** Every attachment of this network that must be kept (`cni.dev/valid-attachments`). */
  readonly validAttachments: readonly Attachment[]
}

export interface Plugin {
  readonly type: string
  /** Specification versions it supports, oldest first. */
  readonly versions: readonly string[]
  /** Its ADD leaves nothing anywhere that outlives the sandbox: no record of it is kept. */
  readonly stateless?: true
  /** Undoes all of itself before it throws. */
  add(input: PluginInput, host: PluginHost): Promise<Result>
  /** Idempotent; needs neither a namespace nor a previous result; goes on after a failure and reports at the end. */
  del(input: PluginInput, host: PluginHost): Promise<void>
  check(input: PluginInput, host: PluginHost): Promise<void>
  status(input: PluginInput, host: PluginHost): Promise<void>
  gc(input: GcInput, host: PluginHost): Promise<void>
}

/** The machine as a plugin may touch it. One lives as long as the agent, or as one call of the standalone program. */
export interface PluginHost {
  /** Prefixed to every absolute path of state (`/var/lib/cni`, `/run/flannel`), so that several agents share a machine. '' in normal life. */
  readonly root: string
  /** rtnetlink in the host's (the agent's) namespace. */
  readonly netlink: NetlinkSocket
  /** Folder of the records of attachments (`attachment/record.ts`); without it none are kept. */
  readonly records?: string
  /** Of one call: a plugin adds what it puts into nftables, so that it can be put back. */
  readonly rules?: RulesNote[]
  /** The same of what it puts into iptables. */
  readonly chains?: ChainsNote[]
  /** Runs another plugin's verb as this one's delegate (IPAM, flannel's bridge): in this process when CNI_PATH leads to Heddle's own plugin, else by executing it. */
  delegate(verb: 'ADD', type: string, input: PluginInput): Promise<Result>
  delegate(verb: 'DEL' | 'CHECK' | 'STATUS' | 'GC', type: string, input: PluginInput | GcInput): Promise<undefined>
  /** Where a test may kill the process or fail the step; does nothing in normal life. Named `<plugin>.<step>`. */
  failpoint(name: string): void
  log(level: 'debug' | 'info' | 'warn' | 'error', message: string, fields?: Readonly<Record<string, unknown>>): void
}
