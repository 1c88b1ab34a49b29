/** Extra matches of a network in iptables' language (`conditionsV4`, `conditionsV6`): words that become part of a rule and may only match. */

import { invalidConfig } from '#cni/errors.ts'
import { quoteWord } from '#iptables/words.ts'

/** Commands and targets, and what a rule does not consist of. iptables takes any beginning of a long name for the name. */
const LONG = [
  '--append',
  '--check',
  '--delete',
  '--delete-chain',
  '--exact',
  '--flush',
  '--goto',
  '--help',
  '--insert',
  '--jump',
  '--line-numbers',
  '--list',
  '--list-rules',
  '--modprobe',
  '--new-chain',
  '--numeric',
  '--policy',
  '--rename-chain',
  '--replace',
  '--set-counters',
  '--table',
  '--verbose',
  '--version',
  '--wait',
  '--wait-interval',
  '--zero',
  // The port and protocol of the mapping are the plugin's.
  '--protocol',
] as const

/** Single letters that match; they may not be run together with their value. */
const SHORT: ReadonlySet<string> = new Set(['-s', '-d', '-i', '-o', '-m', '-f'])

const MAX_WORDS = 64

/** Whether words are meant for iptables rather than nft. */
export const isIptablesLanguage = ([first]: readonly string[]): boolean =>
  first?.startsWith('-') === true || first === '!'

/** The words, when they only match. Throws CniError 7 naming the word. */
export function checkIptablesCondition(words: readonly string[], field: string): readonly string[] {
  if (words.length > MAX_WORDS) throw invalidConfig(`${field} has ${words.length} words, more than ${MAX_WORDS}`)
  for (const word of words) {
    const refuse = (why: string): Error =>
      invalidConfig(`${field} has ${JSON.stringify(word.slice(0, 64))}`, `${why}: a condition may only match`)
    if (word === '') throw refuse('it is empty')
    try {
      quoteWord(word)
    } catch {
      throw refuse('it holds a control character')
    }
    if (!word.startsWith('-') || /^-?[0-9.]+$/.test(word)) continue
    if (!word.startsWith('--') && !SHORT.has(word)) throw refuse('it is no match of iptables')
    const name = word.split('=', 1)[0] ?? word
    if (word.startsWith('--') && LONG.some((one) => one.startsWith(name)))
      throw refuse('it is a command or a target of iptables')
  }
  return words
}
