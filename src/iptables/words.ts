/**
 * Rules as lists of words, and the one line of text that `iptables-save` prints and `iptables-restore` reads.
 *
 * The text knows one kind of quotes, `"`, inside which a backslash escapes the next character. Source: iptables/xshared.c (add_param_to_argv), libxtables
 * (xtables_save_string).
 */

import { IptablesError } from './error.ts'

/** Longest line that iptables-restore reads is 10,240 bytes; a rule of Heddle is far below. */
const MAX_LINE = 8192

const PLAIN = /^[A-Za-z0-9_./:,=@%+~!*[\]-]+$/

/** One word as it stands in a rule's text. Throws `bad-word` for one that would end the line or the word. */
export function quoteWord(word: string): string {
  // eslint-disable-next-line no-control-regex
  if (/[\u0000-\u001f\u007f]/.test(word))
    throw new IptablesError('bad-word', `${JSON.stringify(word.slice(0, 64))} holds a control character: no rule can`)
  return PLAIN.test(word) ? word : `"${word.replaceAll(/["\\]/g, String.raw`\$&`)}"`
}

/** A rule's text, without `-A CHAIN`. Throws `bad-word`. */
export function writeWords(words: readonly string[]): string {
  const line = words.map(quoteWord).join(' ')
  if (Buffer.byteLength(line) <= MAX_LINE) return line
  throw new IptablesError('bad-word', `a rule of ${line.length} characters is longer than iptables reads`)
}

/** The words of a line; never fails: what is left open ends with the line. */
export function readWords(line: string): readonly string[] {
  const words: string[] = []
  let word = ''
  let begun = false
  let quoted = false
  for (let i = 0; i < line.length; i++) {
    const character = line.charAt(i)
    if (quoted && character === '\\' && i + 1 < line.length) word += line.charAt(++i)
    else if (character === '"') {
      quoted = !quoted
      begun = true
    } else if (!quoted && (character === ' ' || character === '\t')) {
      if (begun || word !== '') words.push(word)
      word = ''
      begun = false
    } else word += character
  }
  if (begun || word !== '') words.push(word)
  return words
}
