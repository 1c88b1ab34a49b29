import { createHash } from 'node:crypto'
import { join, resolve } from 'node:path'

import { Command } from 'commander'

import { parseCniArgs, splitPath } from '#cni/env.ts'
import { invalidEnvironment } from '#cni/errors.ts'
import { parseJsonObject } from '#cni/json.ts'
import { defaultCacheDir } from '#cni/runtime/cache.ts'
import { findNetwork } from '#cni/runtime/confdir.ts'
import type { ConfList } from '#cni/runtime/conflist.ts'
import type { HostBase } from '#cni/runtime/delegate.ts'
import { openHost } from '#cni/runtime/host.ts'
import { createRuntime, type AttachmentRequest, type Runtime } from '#cni/runtime/runtime.ts'
import { registry } from '#plugins/registry.ts'
import { installCommand, uninstallCommand } from './install/command.ts'
import { say } from './language.ts'

interface Options {
  readonly ifname?: string
  readonly exec?: boolean
  readonly cacheDir?: string
}

type Act = (runtime: Runtime, list: ConfList, at: AttachmentRequest) => Promise<void>

/** `heddle cni`: our cnitool. Reads CNI_PATH, NETCONFPATH, CAP_ARGS, CNI_ARGS and CNI_IFNAME as that does. */
export function cniCommand(): Command {
  const command = new Command('cni').description(say('cni.description'))
  const verb = (name: 'add' | 'del' | 'check' | 'status' | 'gc' | 'version', needsNetns: boolean, act: Act): void => {
    command
      .command(name)
      .description(say(`cni.${name}`))
      .argument('<network>', say('cni.network'))
      .argument(needsNetns ? '<netns>' : '[netns]', say('cni.netns'))
      .option('-i, --ifname <name>', say('cni.ifname'))
      .option('--exec', say('cni.exec'))
      .option('--cache-dir <directory>', say('cni.cacheDir'))
      .action((network: string, netns: string | undefined, options: Options) => run(network, netns ?? '', options, act))
  }
  verb('add', true, async (runtime, list, at) => {
    process.stdout.write(JSON.stringify(await runtime.add(list, at), null, 4))
  })
  verb('del', true, (runtime, list, at) => runtime.del(list, at))
  verb('check', true, (runtime, list, at) => runtime.check(list, at))
  verb('status', false, (runtime, list) => runtime.status(list))
  verb('gc', false, (runtime, list) => runtime.gc(list))
  verb('version', false, async (runtime, list) => {
    const versions: Record<string, readonly string[]> = {}
    for (const { type } of list.plugins) versions[type] = await runtime.versions(type)
    process.stdout.write(`${JSON.stringify(versions, null, 4)}\n`)
  })
  return command.addCommand(installCommand()).addCommand(uninstallCommand())
}

async function run(network: string, netns: string, options: Options, act: Act): Promise<void> {
  const { env } = process
  const root = env['HEDDLE_ROOT'] ?? ''
  const list = await findNetwork(env['NETCONFPATH'] || join(root, '/etc/cni/net.d'), network)
  const at = attachment(netns, options.ifname)
  let host: (HostBase & Disposable) | undefined
  // Opened when the first plugin of ours is met, so that foreign ones run without the native addon.
  const inProcess = { registry, host: (): HostBase => (host ??= openHost({ root, log })) }
  const runtime = createRuntime({
    path: splitPath(env['CNI_PATH'] || '/opt/cni/bin'),
    cacheDir: options.cacheDir ?? join(root, defaultCacheDir),
    ...(options.exec === true ? {} : { inProcess }),
    onStderr: (_type, text) => void process.stderr.write(text),
  })
  try {
    await act(runtime, list, at)
  } finally {
    host?.[Symbol.dispose]()
  }
}

/** What cnitool makes of its arguments and environment. Throws CniError 4 or 6. */
export function attachment(
  netns: string,
  ifname: string | undefined,
  env: Readonly<Record<string, string | undefined>> = process.env,
): AttachmentRequest {
  const path = resolve(netns)
  const capabilityArgs = env['CAP_ARGS'] ? parseJsonObject(env['CAP_ARGS'], 'CAP_ARGS') : undefined
  const args = [...parseCniArgs(env['CNI_ARGS'] ?? '')]
  const empty = args.find(([, value]) => value === '')
  if (empty !== undefined)
    throw invalidEnvironment(`CNI_ARGS: ${empty[0]} has no value`, 'use the form KEY=VALUE;KEY=VALUE')
  return {
    containerId: containerIdOf(path),
    netns: path,
    ifname: ifname ?? (env['CNI_IFNAME'] || 'eth0'),
    args,
    ...(capabilityArgs === undefined ? {} : { capabilityArgs }),
  }
}

/** Like cnitool: `cnitool-` and the first ten bytes of the SHA-512 of the namespace's path, so that either tool can undo the other's ADD. */
export const containerIdOf = (netns: string): string =>
  `cnitool-${createHash('sha512').update(netns).digest('hex').slice(0, 20)}`

function log(level: 'debug' | 'info' | 'warn' | 'error', message: string): void {
  if (level === 'warn' || level === 'error') process.stderr.write(`heddle: ${level}: ${message}\n`)
}
