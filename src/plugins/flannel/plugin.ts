/**
 * The meta plugin flannel: reads the node's subnet from subnet.env and has another plugin, bridge by default, do the work.
 *
 * Unlike the reference it keeps one record for each attachment, forgets it only after the delegate's DEL succeeded, says "try again later" while the agent is
 * not ready, passes CHECK, STATUS and GC on, and mends a bridge that has the address of a former subnet.
 */

import { leftBehind } from '#cni/attachment/ledger.ts'
import { parseNetConf, type NetConf } from '#cni/config.ts'
import { CniError, joinErrors, unavailable } from '#cni/errors.ts'
import type { GcInput, Plugin, PluginHost, PluginInput } from '#cni/plugin.ts'
import type { Result } from '#cni/result.ts'
import { specVersions } from '#cni/version.ts'
import { flannelConf, renderDelegate, type FlannelConf } from './config.ts'
import { findDelegate, listDelegates, removeDelegate, saveDelegate, type DelegateFile } from './delegate-file.ts'
import { leaveFormerSubnets } from './former-subnet.ts'
import { readSubnetEnv, type SubnetEnv } from './subnet-env.ts'

export const flannel: Plugin = { type: 'flannel', versions: specVersions, add, del, check, status, gc }

async function add(input: PluginInput, host: PluginHost): Promise<Result> {
  const conf = flannelConf(input.config, host.root)
  const env = readSubnetEnv(conf.subnetFile)
  const config = renderDelegate(input.config, conf, env)
  const delegated = { ...input, config }
  leaveFormerSubnets(config, env, host)
  host.failpoint('flannel.save')
  const path = saveDelegate(conf.dataDir, input.config.name, input, config.raw)
  host.failpoint('flannel.saved')
  try {
    return await host.delegate('ADD', config.type, delegated)
  } catch (error) {
    // What the delegate could not undo stays on record for the runtime's DEL.
    await host.delegate('DEL', config.type, delegated).then(
      () => removeDelegate(path),
      (failure: unknown) => {
        leftBehind(error)
        host.log('warn', 'flannel: undoing a failed ADD failed', { error: String(failure) })
      },
    )
    throw error
  }
}

async function del(input: PluginInput, host: PluginHost): Promise<void> {
  const conf = flannelConf(input.config, host.root)
  const file = findDelegate(conf.dataDir, input.config.name, input)
  const config = file?.config === undefined ? fallback(input, conf, file) : parseNetConf(file.config)
  if (config !== undefined) await host.delegate('DEL', config.type, { ...input, config })
  host.failpoint('flannel.forget')
  if (file !== undefined) removeDelegate(file.path)
  host.failpoint('flannel.forgotten')
}

/**
 * The configuration for a DEL whose record is lost (a wiped directory) or torn: as it would be rendered today. Undefined where there never was
 * a record and the agent is away too: then there is nothing to go by, and nothing to do.
 */
function fallback(input: PluginInput, conf: FlannelConf, file: DelegateFile | undefined): NetConf | undefined {
  const env = envIfReady(conf)
  return env === undefined && file === undefined ? undefined : renderDelegate(input.config, conf, env)
}

function envIfReady(conf: FlannelConf): SubnetEnv | undefined {
  try {
    return readSubnetEnv(conf.subnetFile)
  } catch {
    return undefined
  }
}

async function check(input: PluginInput, host: PluginHost): Promise<void> {
  const conf = flannelConf(input.config, host.root)
  const recorded = findDelegate(conf.dataDir, input.config.name, input)?.config
  const config =
    recorded === undefined
      ? renderDelegate(input.config, conf, readSubnetEnv(conf.subnetFile))
      : // The recorded configuration may be of an older version of the list, one without CHECK.
        parseNetConf({ ...recorded, cniVersion: input.config.cniVersion })
  await host.delegate('CHECK', config.type, { ...input, config })
}

async function status(input: PluginInput, host: PluginHost): Promise<void> {
  const conf = flannelConf(input.config, host.root)
  const config = renderDelegate(input.config, conf, readyEnv(conf))
  await host.delegate('STATUS', config.type, { ...input, config })
}

function readyEnv(conf: FlannelConf): SubnetEnv {
  try {
    return readSubnetEnv(conf.subnetFile)
  } catch (error) {
    if (error instanceof CniError) throw unavailable(error.msg, error.details, { cause: error })
    throw error
  }
}

/** DEL for each recorded attachment that is not valid any more, then the delegate's own GC for what has no record. */
async function gc(input: GcInput, host: PluginHost): Promise<void> {
  const conf = flannelConf(input.config, host.root)
  const config = renderDelegate(input.config, conf, envIfReady(conf))
  const errors: unknown[] = []
  const valid = new Set(input.validAttachments.map(({ containerId, ifname }) => `${containerId}:${ifname}`))
  for (const { attachment, path, config: recorded } of listDelegates(conf.dataDir, input.config.name)) {
    if (valid.has(`${attachment.containerId}:${attachment.ifname}`)) continue
    try {
      const used = recorded === undefined ? config : parseNetConf(recorded)
      await host.delegate('DEL', used.type, { ...input, ...attachment, netns: '', config: used })
      removeDelegate(path)
    } catch (error) {
      errors.push(error)
    }
  }
  try {
    await host.delegate('GC', config.type, { ...input, config })
  } catch (error) {
    errors.push(error)
  }
  const joined = joinErrors(errors)
  if (joined !== undefined) throw joined
}
