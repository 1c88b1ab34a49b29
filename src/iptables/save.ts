/** A table as iptables holds it, read from the text of `iptables-save`. Pure. */

import { IptablesError } from './error.ts'
import { ruleKey, type Rule } from './rule.ts'
import { readWords } from './words.ts'

export class TableRules {
  /** Chains, with their rules in order. */
  readonly #chains = new Map<string, Rule[]>()
  readonly #policies = new Map<string, string>()

  /** Reads one table out of a text that may hold several. A table that the text lacks is empty. Throws `refused` for what iptables cannot show. */
  static parse(text: string, table: string): TableRules {
    const rules = new TableRules()
    let inside = false
    for (const line of text.split('\n')) {
      if (line.startsWith('*')) inside = line.slice(1).trim() === table
      // nft rules that iptables has no words for: it shows nothing of the table then.
      else if (line.startsWith(`# Table \`${table}' is incompatible`))
        throw new IptablesError('refused', `iptables cannot show the table ${table}: ${line.slice(2)}`)
      else if (inside) rules.#line(line)
    }
    return rules
  }

  #line(line: string): void {
    if (line.startsWith(':')) {
      const [chain = '', policy = '-'] = line.slice(1).split(' ')
      this.#chains.set(chain, [])
      if (policy !== '-') this.#policies.set(chain, policy)
    } else if (line.startsWith('-A ')) {
      const [chain = '', ...rule] = readWords(line.slice(3))
      const before = this.#chains.get(chain)
      if (before === undefined) this.#chains.set(chain, [rule])
      else before.push(rule)
    }
  }

  get chains(): readonly string[] {
    return [...this.#chains.keys()]
  }

  hasChain(chain: string): boolean {
    return this.#chains.has(chain)
  }

  /** Empty for a chain that is not there. */
  rulesOf(chain: string): readonly Rule[] {
    return this.#chains.get(chain) ?? []
  }

  /** ACCEPT or DROP of a built-in chain. */
  policyOf(chain: string): string | undefined {
    return this.#policies.get(chain)
  }

  has(chain: string, rule: Rule): boolean {
    const key = ruleKey(rule)
    return this.rulesOf(chain).some((seen) => ruleKey(seen) === key)
  }

  /** Every rule with its chain. */
  *rules(): Generator<readonly [chain: string, rule: Rule]> {
    for (const [chain, rules] of this.#chains) for (const rule of rules) yield [chain, rule]
  }
}
