/**
 * When are two rules the same? `iptables-save` prints what the kernel holds: options in an order of its own, matches that nobody named (`-m tcp`),
 * prefixes of one address, masks where there was none. So rules are compared in a form that leaves out all of it.
 */

import { tryParseIp, formatIp } from '#ip/address.ts'
import { formatCidr, networkOf, tryParseIpNet } from '#ip/prefix.ts'

/** A rule's words without `-A CHAIN`: matches and target, as on the command line. */
export type Rule = readonly string[]

interface Option {
  readonly negated: boolean
  readonly name: string
  readonly values: readonly string[]
}

/** Other spellings of what iptables-save prints. */
const SPELLINGS: Readonly<Record<string, string>> = {
  '--source': '-s',
  '--src': '-s',
  '--destination': '-d',
  '--dst': '-d',
  '--protocol': '-p',
  '--proto': '-p',
  '--in-interface': '-i',
  '--out-interface': '-o',
  '--jump': '-j',
  '--goto': '-g',
  '--match': '-m',
  '--destination-port': '--dport',
  '--destination-ports': '--dports',
  '--source-port': '--sport',
  '--source-ports': '--sports',
  '--set-mark': '--set-xmark',
}

const isOption = (word: string): boolean => /^--?[A-Za-z]/.test(word)

function optionsOf(rule: Rule): readonly Option[] {
  const options: { negated: boolean; name: string; values: string[] }[] = []
  let negated = false
  for (const word of rule) {
    if (word === '!') negated = true
    // A comment may look like an option: it is the one word after its name.
    else if (isOption(word) && !isOpen(options.at(-1))) {
      options.push({ negated, name: SPELLINGS[word] ?? word, values: [] })
      negated = false
    } else {
      // The old order, `-d ! 10.0.0.0/8`.
      const last = options.at(-1)
      if (last === undefined) options.push({ negated, name: '', values: [word] })
      else {
        last.values.push(word)
        last.negated ||= negated
      }
      negated = false
    }
  }
  return options
}

const isOpen = (option: Option | undefined): boolean => option?.name === '--comment' && option.values.length === 0

/** The same text for rules that mean the same; pure, and only good for comparing. */
export function ruleKey(rule: Rule): string {
  return optionsOf(rule)
    .filter(({ name }) => name !== '-m')
    .flatMap((option) => normalOption(option) ?? [])
    .toSorted()
    .join('\n')
}

function normalOption({ negated, name, values }: Option): string | undefined {
  const [value = ''] = values
  const sign = negated ? '! ' : ''
  if (name === '-s' || name === '-d') {
    const address = normalAddress(value)
    // Every address: as if it were not there.
    return !negated && /^(0\.0\.0\.0|::)\/0$/.test(address) ? undefined : `${sign}${name} ${address}`
  }
  if (name === '-p') return value === 'all' ? undefined : `${sign}${name} ${value.toLowerCase()}`
  if (name === '--mark' || name === '--set-xmark') return `${sign}${name} ${normalMark(value)}`
  if (name === '--ctstate') return `${sign}${name} ${value.split(',').toSorted().join(',')}`
  if (name === '--to-destination') return `${sign}${name} ${value.toLowerCase()}`
  return `${sign}${name} ${values.join(' ')}`
}

function normalAddress(text: string): string {
  const ip = tryParseIp(text)
  if (ip !== undefined) return `${formatIp(ip)}/${ip.family === 4 ? 32 : 128}`
  const net = tryParseIpNet(text)
  return net === undefined ? text : formatCidr(networkOf(net))
}

const ALL_BITS = 0xffff_ffff

function normalMark(text: string): string {
  const [value, mask] = text.split('/').map(Number)
  if (value === undefined || !Number.isInteger(value) || (mask !== undefined && !Number.isInteger(mask))) return text
  return `${value}/${mask ?? ALL_BITS}`
}

/** What follows an option in a rule: `valueOf(rule, '-j')` is its target. */
export function valueOf(rule: Rule, name: string): string | undefined {
  return optionsOf(rule).find((option) => option.name === name)?.values[0]
}
