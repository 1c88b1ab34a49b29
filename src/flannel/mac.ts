/** The tunnel device's MAC. Peers have it in their neighbour and FDB entries, so it must outlive devices, agents and reboots. */

import { isGroupMac, localMac, tryParseMac, ZERO_MAC } from '#ip/mac.ts'
import type { MacText } from '#ip/text.ts'
import { parseVtepData } from './backend-data.ts'
import { FlannelError } from './errors.ts'

/**
 * Chooses the MAC: what the own annotation says (peers live by it), else what was recorded on disk, else what an existing device has
 * (so that it is kept), else a new one.
 */
export function chooseMac(
  annotation: string | undefined,
  recorded: string | undefined,
  device: string | undefined,
  random: () => Uint8Array,
): MacText {
  return published(annotation) ?? station(recorded) ?? station(device) ?? localMac(random())
}

/** The MAC in the own `backend-data`; undefined when there is none that can be used. */
function published(annotation: string | undefined): MacText | undefined {
  try {
    return parseVtepData(annotation, 'backend-data').mac
  } catch (error) {
    if (error instanceof FlannelError) return undefined
    throw error
  }
}

function station(text: string | undefined): MacText | undefined {
  const mac = text === undefined ? undefined : tryParseMac(text)
  return mac === undefined || mac === ZERO_MAC || isGroupMac(mac) ? undefined : mac
}
