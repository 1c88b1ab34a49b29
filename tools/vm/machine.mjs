import { spawn } from 'node:child_process'
import { copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import { join } from 'node:path'

import { commandPath, root } from '../paths.mjs'
import { Problem } from '../setup/problem.mjs'
import { lastLines } from '../setup/step.mjs'
import { initrd } from './initrd.mjs'

/** The program that shares files with the machine: QEMU's own, or (from Debian 13 on) that of the package virtiofsd. */
export const FILE_SERVERS = ['/usr/lib/qemu/virtiofsd', '/usr/libexec/virtiofsd']

/** A file inside that is brought out at the end. */
export const RECORD_INSIDE = '/run/vm/record'

/** Memory is taken only when it is used. */
const MOST_MEGABYTES = 4096
export const CORES = Math.min(Math.max(os.availableParallelism?.() ?? os.cpus().length, 2), 4)

/**
 * `tcg` emulates every instruction, and works everywhere. `kvm` is about ten times as fast, but has to be asked for: a machine
 * that is virtual itself often has a /dev/kvm under which nothing ever boots.
 */
export const accelerator = () => process.env['HEDDLE_VM_ACCEL'] ?? 'tcg'

/**
 * Boots a machine over this machine's files (it sees them all; what it writes is lost), runs one command as root, turns it off.
 *
 * @param {{ kernel: import('./kernel.mjs').Kernel, argv: readonly string[], timeoutMs: number, record?: string | undefined }} job output goes to
 *   this process's; what the command wrote to RECORD_INSIDE goes to the file `record`
 * @returns {Promise<number>} the command's exit status
 */
export async function runInMachine({ kernel, argv, timeoutMs, record }) {
  const work = mkdtempSync(join(os.tmpdir(), 'heddle-vm-'))
  const file = (name) => join(work, name)
  const children = []
  const start = (command, args, stdio) => {
    const child = spawn(command, args, { cwd: root, stdio })
    children.push(child)
    child.ended = new Promise((resolve) => {
      child.on('error', (error) => resolve(error.message))
      child.on('close', (code, signal) => resolve(signal ?? code))
    })
    return child
  }
  let why = 'it ended before the command did'
  const stop = (reason) => {
    why = reason
    for (const child of children) child.kill('SIGKILL')
  }
  const interrupted = () => stop('it was interrupted')
  process.on('SIGINT', interrupted).on('SIGTERM', interrupted)
  const timer = setTimeout(() => stop(`it was not finished after ${timeoutMs / 60_000} minutes`), timeoutMs)
  try {
    const busybox = commandPath('busybox')
    const settings = { checkout: root, modules: kernel.modules }
    writeFileSync(file('initrd'), initrd({ kernel, busybox, settings, argv }))
    const server = FILE_SERVERS.find((path) => existsSync(path))
    // What was once looked up is not asked for again, though somebody may edit it: that halves the time.
    const share =
      server === FILE_SERVERS[0]
        ? ['-o', 'source=/', '-o', 'sandbox=chroot', '-o', 'cache=always']
        : ['--shared-dir=/', '--sandbox=chroot', '--cache=always']
    const files = start(server, [`--socket-path=${file('files.sock')}`, ...share], 'ignore')
    await Promise.race([
      socketAt(file('files.sock')),
      files.ended.then((how) => {
        throw new Error(`${server} ended: ${how}`)
      }),
    ])

    // Its input is never written, and open all the time: at its end QEMU would close the output too.
    const machine = start('qemu-system-x86_64', machineArgs(kernel, file), ['pipe', 'inherit', 'pipe'])
    let complaints = ''
    machine.stderr.setEncoding('utf8').on('data', (text) => (complaints = (complaints + text).slice(-8_000)))
    await machine.ended
    if (record !== undefined && existsSync(file('record'))) copyFileSync(file('record'), record)
    const status = existsSync(file('status')) ? readFileSync(file('status'), 'utf8').trim() : ''
    if (/^\d+$/.test(status)) return Number(status)
    const said = existsSync(file('console')) ? readFileSync(file('console'), 'utf8') : ''
    throw new Problem({
      what: `the virtual machine gave no result: ${why}`,
      why: lastLines(`${complaints}${said}`, 25),
    })
  } finally {
    clearTimeout(timer)
    process.off('SIGINT', interrupted).off('SIGTERM', interrupted)
    for (const child of children) child.kill('SIGKILL')
    await Promise.all(children.map((child) => child.ended))
    rmSync(work, { recursive: true, force: true })
  }
}

async function socketAt(path) {
  const end = Date.now() + 10_000
  while (!existsSync(path)) {
    if (Date.now() > end)
      throw new Problem({ what: `the file server of the virtual machine made no ${path} within 10 s` })
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

function machineArgs(kernel, file) {
  const memory = `${Math.min(MOST_MEGABYTES, Math.floor(os.totalmem() / 2 ** 21))}M`
  const accel = accelerator()
  return [
    ['-nodefaults', '-no-user-config', '-no-reboot'],
    ['-display', 'none', '-monitor', 'none'],
    ['-accel', accel === 'tcg' ? 'tcg,thread=multi,tb-size=512' : accel, '-cpu', 'max', '-smp', `${CORES}`],
    // The file server reads and writes the machine's memory, so it has to be shared.
    ['-m', memory, '-object', `memory-backend-memfd,id=memory,size=${memory},share=on`, '-numa', 'node,memdev=memory'],
    ['-chardev', `socket,id=files,path=${file('files.sock')}`, '-device', 'vhost-user-fs-pci,chardev=files,tag=host'],
    ['-device', 'virtio-rng-pci', '-device', 'virtio-serial-pci'],
    // A network card that leads nowhere, for tests of what the kernel does with physical devices; they know it by its address.
    ['-device', 'virtio-net-pci,mac=52:54:00:68:65:64,romfile='],
    ['-chardev', 'stdio,id=output,signal=off', '-device', 'virtserialport,chardev=output,name=output'],
    ['-chardev', `file,id=status,path=${file('status')}`, '-device', 'virtserialport,chardev=status,name=status'],
    ['-chardev', `file,id=record,path=${file('record')}`, '-device', 'virtserialport,chardev=record,name=record'],
    ['-serial', `file:${file('console')}`],
    ['-kernel', kernel.image, '-initrd', file('initrd')],
    // Where others keep the processor busy, the check of the timer fails for want of ticks. Nobody attacks this machine's processor.
    ['-append', 'console=ttyS0 panic=-1 quiet loglevel=4 no_timer_check mitigations=off'],
  ].flat()
}
