import { readFileSync, statSync } from 'node:fs'
import { KubeError } from './errors.ts'

/** A text that may change while the program runs. */
export interface TextSource {
  /** The present text. */
  readonly read: () => string
  /** Looks again now, whatever was read how recently. True when the text is another one than before. */
  readonly refresh: () => boolean
}

/** A file is looked at again after this many milliseconds. */
const LOOK_AGAIN = 10_000

/**
 * The content of a file that others rotate (service account tokens hourly, kubelet certificates yearly).
 * It is read when first needed, and again when its inode, size or time changed; while it cannot be read, or is empty
 * (half written), the last text stays.
 * @throws KubeError `config` on read, where the file could never be read.
 */
export function fileText(file: string, now: () => number = () => performance.now()): TextSource {
  let text: string | undefined
  let seen = ''
  let looked = Number.NEGATIVE_INFINITY
  const look = (): void => {
    looked = now()
    try {
      const { ino, size, mtimeMs } = statSync(file)
      const stamp = `${ino} ${size} ${mtimeMs}`
      if (stamp === seen) return
      const fresh = readFileSync(file, 'utf8').trim()
      if (fresh === '') throw new Error('it is empty')
      text = fresh
      seen = stamp
    } catch (error) {
      if (text !== undefined) return
      throw new KubeError(
        'config',
        `${file} cannot be read: ${error instanceof Error ? error.message : String(error)}`,
        { cause: error },
      )
    }
  }
  const read = (): string => {
    if (text === undefined || now() - looked >= LOOK_AGAIN) look()
    return text ?? ''
  }
  return {
    read,
    refresh: () => {
      const before = text
      // Forget the stamp: two writes within one tick of the clock look the same.
      seen = ''
      look()
      return text !== before
    },
  }
}
