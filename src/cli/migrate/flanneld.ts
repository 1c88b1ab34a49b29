/** The flanneld of this node: its process, and the unit of systemd that starts it. */

import { readFileSync, readlinkSync } from 'node:fs'
import { basename, join } from 'node:path'

import { namesIn } from '#doctor/collect/files.ts'
import { readText } from '#doctor/collect/files.ts'

export interface FoundProcess {
  readonly pid: number
  /** Its command line, without the program's own name. */
  readonly args: readonly string[]
  /** Who started it, by its control group: a pod of Kubernetes, a unit of systemd, or somebody. */
  readonly home: 'pod' | 'unit' | 'other'
  /** The unit's name, where there is one. */
  readonly unit: string | undefined
}

export interface FoundUnit {
  /** As the machine sees it, without --root. */
  readonly path: string
  /** What is to be executed, drop-ins of others included; without specifiers resolved. */
  readonly command: string
}

export const UNIT = 'flanneld.service'
const UNIT_FOLDERS = ['/etc/systemd/system', '/run/systemd/system', '/usr/lib/systemd/system', '/lib/systemd/system']

/** Ours, the last of its folder in the order of systemd.unit(5). */
export const DROP_IN = `/etc/systemd/system/${UNIT}.d/zz-heddle.conf`

/** Processes named flanneld whose network namespace is this process's own: those of other namespaces are others' nodes. */
export function findProcesses(): readonly FoundProcess[] {
  const own = linkText('/proc/self/ns/net')
  return numbersIn('/proc').flatMap((pid): FoundProcess[] => {
    const folder = `/proc/${pid}`
    const [program = '', ...args] = (text(`${folder}/cmdline`) ?? '').split('\0').filter((word) => word !== '')
    if (basename(program) !== 'flanneld' || linkText(`${folder}/ns/net`) !== own) return []
    return [{ pid, args, ...homeOf(text(`${folder}/cgroup`) ?? '') }]
  })
}

/** Source: the names that kubelet and systemd give their control groups. */
export function homeOf(cgroup: string): Pick<FoundProcess, 'home' | 'unit'> {
  if (/kubepods/.test(cgroup)) return { home: 'pod', unit: undefined }
  const unit = /\/([^/\n]+\.service)(?:\/|$)/m.exec(cgroup)?.[1]
  return unit === undefined ? { home: 'other', unit } : { home: 'unit', unit }
}

/** The unit and what its drop-ins make of it, ours left out. */
export function findUnit(root: string): FoundUnit | undefined {
  for (const folder of UNIT_FOLDERS) {
    const path = `${folder}/${UNIT}`
    const unit = readText(join(root, path))
    if (unit === undefined) continue
    const dropIns = UNIT_FOLDERS.flatMap((parent) => dropInsOf(root, `${parent}/${UNIT}.d`))
    // One name, one file: that of the first folder.
    const seen = new Map(dropIns.toReversed().map(({ name, body }) => [name, body]))
    const ordered = [...seen].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([, body]) => body)
    const commands = execStart([unit, ...ordered])
    return { path, command: commands.at(-1) ?? '' }
  }
  return undefined
}

function dropInsOf(root: string, folder: string): readonly { readonly name: string; readonly body: string }[] {
  return namesIn(join(root, folder))
    .filter((name) => name.endsWith('.conf') && `${folder}/${name}` !== DROP_IN)
    .flatMap((name) => {
      const body = readText(join(root, folder, name))
      return body === undefined ? [] : [{ name, body }]
    })
}

/** The values of ExecStart: an empty one forgets those before it, a backslash at a line's end joins the next. */
export function execStart(texts: readonly string[]): readonly string[] {
  let found: string[] = []
  for (const whole of texts) {
    let section = ''
    for (const line of whole.replaceAll(/\\\n/g, ' ').split('\n')) {
      if (line.startsWith('[')) section = line.trim()
      const value = /^\s*ExecStart\s*=(.*)$/.exec(line)?.[1]?.trim()
      if (value === undefined || section !== '[Service]') continue
      found = value === '' ? [] : [...found, value]
    }
  }
  return found
}

/** The drop-in that has Heddle run with the unit's own flags; undefined for a command that is not flanneld itself, such as a script around it. */
export function dropInText(command: string, program: string): string | undefined {
  const parts = /^([-:+!]*)(?:"\/(?:[^"\s]*\/)?flanneld"|\/(?:[^"\s]*\/)?flanneld)(\s.*)?$/s.exec(command)
  if (parts === null || !/^\/[\w./+-]+$/.test(program)) return undefined
  const [, prefix = '', flags = ''] = parts
  return [
    '# Written by heddle migrate flannel --systemd; heddle migrate flannel --back takes it away.',
    '[Service]',
    'ExecStart=',
    `ExecStart=${prefix}${program} flanneld${flags}`,
    '',
  ].join('\n')
}

const numbersIn = (folder: string): readonly number[] =>
  namesIn(folder)
    .filter((name) => /^\d+$/.test(name))
    .map(Number)

/** Undefined for a process that has ended meanwhile. */
function text(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return undefined
  }
}

function linkText(path: string): string | undefined {
  try {
    return readlinkSync(path)
  } catch {
    return undefined
  }
}
