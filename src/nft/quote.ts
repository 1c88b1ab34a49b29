/**
 * Names and comments on their way into nft's language.
 *
 * The language has no escapes inside quotes, so what cannot be said safely is refused (names) or replaced (comments). Nothing that passes these functions can
 * end the token it is in.
 */

import { NftError } from './error.ts'

/** Longest name of a table, chain, set or map that Heddle uses; the kernel allows 255 bytes. */
const MAX_NAME = 128

/** Longest comment in bytes that nft accepts, without its closing NUL. Source: libnftnl, NFTNL_UDATA_COMMENT_MAXLEN. */
export const MAX_COMMENT = 127

/** Words of nft's grammar that cannot be names, found by offering every word of its manual as one to nft 1.0.6. */
const reserved = new Set(
  (
    'accept add ah all and arp auto-merge bridge cgroup chain comment comp constant continue counter cpu create ct day dccp define delete describe ' +
    'destroy device devices dnat drop dst dup dynamic ecn element elements eq esp ether exists expires export exthdr fib flags flow flowtable flush frag ' +
    'fwd gc-interval ge get goto gt handle hbh hook hour ibriport ibrname icmp icmpv6 igmp iif iifgroup iifname iiftype import include index inet insert ' +
    'interval ip ip6 ipsec jhash jump last le limit list log lt map mark masquerade meta meter mh missing monitor ne netdev nftrace not notrack numgen ' +
    'obriport obrname offload oif oifgroup oifname oiftype or osf performance memory pkttype policy position priority queue quota random redefine redirect ' +
    'reject rename replace reset return rshift lshift rt rt0 rt2 rtclassid rule ruleset sctp secmark set size skgid skuid snat socket srh symhash ' +
    'synproxy table tcp th time timeout tproxy type typeof udp udplite undefine update vlan vmap xor xt'
  ).split(' '),
)

const identifierForm = /^[A-Za-z_][A-Za-z0-9_.-]*$/

/** A name of a table, chain, set or map, unchanged. Throws `bad-name` for what nft would read as anything else. */
export function identifier(name: string): string {
  if (!identifierForm.test(name))
    throw badName(name, 'it must start with a letter and consist of letters, digits, "_", "-" and "."')
  if (name.length > MAX_NAME) throw badName(name.slice(0, 32), `it is longer than ${MAX_NAME} characters`)
  if (reserved.has(name)) throw badName(name, "it is a word of nft's grammar")
  return name
}

/** Whether `identifier` accepts the name. */
export const isIdentifier = (name: string): boolean =>
  identifierForm.test(name) && name.length <= MAX_NAME && !reserved.has(name)

/**
 * A network interface's name in quotes, for `iifname` and `oifname`. Throws `bad-name` for names the kernel would not give (dev_valid_name: 1 to 15 bytes, no
 * "/", ":" or white space) and for `"`, `*` and `\`, which the kernel allows but nft reads as a quote, a wildcard and its escape.
 */
export function quoteInterface(name: string): string {
  if (name === '' || name === '.' || name === '..' || Buffer.byteLength(name) > 15)
    throw badName(name.slice(0, 32), 'an interface name has 1 to 15 bytes')
  // eslint-disable-next-line no-control-regex
  if (/[/:\s\u0000-\u0020\u007f"*\\]/.test(name)) throw badName(name, 'it holds a character no interface of Heddle has')
  return `"${name}"`
}

/**
 * Text that is safe as a comment and shows the same in `nft list` and on a terminal: control characters, quotes, and what is no Unicode become harmless, and what is too
 * long is cut at a character's boundary.
 */
export function commentText(text: string): string {
  // eslint-disable-next-line no-control-regex
  const clean = text
    .toWellFormed()
    .replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, '?')
    .replaceAll('"', "'")
  if (Buffer.byteLength(clean) <= MAX_COMMENT) return clean
  let cut = ''
  let bytes = 0
  for (const character of clean) {
    bytes += Buffer.byteLength(character)
    if (bytes > MAX_COMMENT - 3) break
    cut += character
  }
  return `${cut}…`
}

/** A comment in quotes, after `commentText`. */
export const quoteComment = (text: string): string => `"${commentText(text)}"`

/**
 * Checks that a rule's text is one rule: no line break, no `;` or `#` outside quotes, braces and quotes closed, no comment of its own (the owner is the comment),
 * no `$variable` and no backslash. Throws `bad-rule`.
 */
export function checkRule(text: string): string {
  let depth = 0
  let quoted = false
  for (const character of text) {
    if (character < ' ' || character === '\u007f') throw badRule(text, 'it holds a control character')
    if (character === '"') quoted = !quoted
    else if (quoted) continue
    else if (character === '{') depth += 1
    else if (character === '}') depth -= 1
    else if (';#$\\'.includes(character)) throw badRule(text, `it holds "${character}" outside quotes`)
    if (depth < 0) throw badRule(text, 'it closes a brace it did not open')
  }
  if (quoted) throw badRule(text, 'a quote is not closed')
  if (depth !== 0) throw badRule(text, 'a brace is not closed')
  if (text.trim() === '') throw badRule(text, 'it is empty')
  if (/(^|\s)comment\s*"/.test(text)) throw badRule(text, 'its comment is made from owner and reason')
  return text
}

const badName = (name: string, why: string): NftError =>
  new NftError('bad-name', `${JSON.stringify(name)} cannot be a name in nftables: ${why}`)

const badRule = (text: string, why: string): NftError =>
  new NftError('bad-rule', `${JSON.stringify(text.slice(0, 200))} is not one nftables rule: ${why}`, { text })
