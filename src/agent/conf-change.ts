/** What becomes of a network configuration that is other than the one in use. */

import { FlannelError } from '#flannel/errors.ts'
import { familiesOf, parseNetConf, type NetConf } from '#flannel/net-conf.ts'
import { allowedConf, type ReadConf } from './conf-reader.ts'

export type ConfChange =
  | { readonly is: 'same' }
  | { readonly is: 'follow'; readonly read: ReadConf }
  /** The one in use stays. */
  | { readonly is: 'refused'; readonly why: string }

export interface ConfInUse extends ReadConf {
  readonly allowExtension: boolean
  /** Why this node could not be served with such a configuration. */
  readonly objection: (conf: NetConf) => string | undefined
}

/** Only what leaves every pod its address is followed. */
export function judgeConf(text: string, used: ConfInUse): ConfChange {
  if (canonical(text) === canonical(used.text)) return { is: 'same' }
  try {
    const conf = allowedConf(parseNetConf(text), used.allowExtension)
    const why = lostFamily(conf, used.conf) ?? used.objection(conf)
    return why === undefined ? { is: 'follow', read: { text, conf } } : { is: 'refused', why }
  } catch (error) {
    if (error instanceof FlannelError) return { is: 'refused', why: error.message }
    throw error
  }
}

/** Blanks say nothing. Secrets do, which a parsed configuration hides. */
function canonical(text: string): string {
  try {
    return JSON.stringify(JSON.parse(text))
  } catch {
    return text
  }
}

function lostFamily(conf: NetConf, used: NetConf): string | undefined {
  const lost = familiesOf(used).find((family) => conf.network[family] === undefined)
  return lost === undefined ? undefined : `IPv${lost} is switched off, and pods of this node have addresses of it`
}
