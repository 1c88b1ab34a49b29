/** Lines of the lab's commands that more than one of them prints. */

import type { Step } from '#lab/steps.ts'
import { say } from './language.ts'
import { style } from './style.ts'
import { widthOf } from './width.ts'

export const print = (...lines: readonly string[]): void => void process.stdout.write(`${lines.join('\n')}\n`)

const STEP_WIDTH = 96

/** One finished step: a mark, what was done, how long it took. */
export function printStep(step: Step, ms: number): void {
  const text = stepText(step)
  const gap = ' '.repeat(Math.max(1, STEP_WIDTH - widthOf(text)))
  print(`  ${style('good', '✓')} ${text}${gap}${style('dim', `${Math.round(ms)} ms`)}`)
  if (step.step === 'pods-deleted' && step.failures.length > 0) {
    const failures = step.failures.slice(0, 3).join('; ')
    print(`  ${style('warning', '!')} ${say('lab.step.pods-failed', { count: step.failures.length, failures })}`)
  }
}

function stepText(step: Step): string {
  switch (step.step) {
    case 'namespaces':
      return say('lab.step.namespaces', step)
    case 'network':
      return say('lab.step.network', step)
    case 'api':
      return say('lab.step.api', step)
    case 'cloud':
      return say('lab.step.cloud', step)
    case 'agents':
      return say('lab.step.agents', step)
    case 'pods':
      return say('lab.step.pods', step)
    case 'floating-ips':
      return say('lab.step.floating-ips')
    case 'pods-deleted':
      return say('lab.step.pods-deleted', { pods: step.pods - step.failures.length })
    case 'processes-ended':
      return say('lab.step.processes-ended', step)
    case 'namespaces-removed':
      return say('lab.step.namespaces-removed', step)
    default:
      return say('lab.step.files-removed', step)
  }
}

export const seconds = (ms: number): string => (ms / 1000).toFixed(ms < 10_000 ? 2 : 1)

/** `--name X` of a command where the lab's name is not the default. */
export const nameFlag = (name: string): string => (name === 'lab' ? '' : ` --name ${name}`)
