/** Others' rules that stop pods' packets. */

import { overlaps, parseCidr, tryParseCidr } from '#ip/prefix.ts'
import type { CidrText } from '#ip/text.ts'
import { podNetworks, type Facts, type ForwardChain } from '../facts.ts'
import { fine, wrong, type Finding } from '../finding.ts'

/** Docker, ufw and kube-router set the policy of FORWARD to drop: what no rule accepts ends there, whatever other tables say. */
export function forwardPolicy(facts: Facts): readonly Finding[] {
  const dropping = facts.forwardChains.filter(({ drops }) => drops)
  if (dropping.length === 0) {
    const seen = facts.forwardChains.map(({ name }) => `${name}: policy accept`)
    return [fine('forward-policy', ...(seen.length === 0 ? ['no chain hooks into forwarding'] : seen))]
  }
  const networks = podNetworks(facts)
  return dropping.map((chain) => {
    const evidence = [`${chain.name}: policy drop`, ...chain.rules.filter(mentionsAccept).slice(0, 5)]
    const missing = networks.find((network) => !accepts(chain, network))
    if (networks.length > 0 && missing === undefined) return fine('forward-policy', ...evidence)
    const cause = { code: 'forward-drop', chain: chain.name, network: missing ?? 'the pod network' } as const
    return wrong('forward-policy', 'problem', cause, evidence, [chain.accept])
  })
}

const mentionsAccept = (rule: string): boolean => /accept|ACCEPT|FWD|FORWARD/.test(rule)

/** A rule without any condition, or one for the pod network (as source or destination), or flannel's own chain. */
function accepts({ rules }: ForwardChain, network: CidrText): boolean {
  const pods = parseCidr(network)
  return rules.some((rule) => {
    if (/FLANNEL-FWD/.test(rule)) return true
    if (!/\baccept\b|-j ACCEPT/.test(rule)) return false
    const named = rule.match(/[0-9a-fA-F:.]+\/\d+/g) ?? []
    return named.some((text) => {
      const cidr = tryParseCidr(text)
      return (
        cidr !== undefined && cidr.ip.family === pods.ip.family && cidr.length <= pods.length && overlaps(cidr, pods)
      )
    })
  })
}

/** firewalld rejects what its zones do not know, and flushes foreign rules on a reload. */
export function firewalld(facts: Facts): readonly Finding[] {
  if (!facts.running.firewalld) return [fine('firewalld', 'firewalld does not run')]
  const networks = podNetworks(facts)
  const trusted = [...facts.files].filter(([path]) => path.endsWith('/zones/trusted.xml')).map(([, text]) => text)
  const missing = networks.filter((network) => !trusted.some((text) => text.includes(`"${network}"`)))
  if (networks.length > 0 && missing.length === 0)
    return [fine('firewalld', `${networks.join(', ')} in the zone trusted`)]
  const sources = missing.length === 0 ? [] : missing
  const network = sources.join(', ') || 'the pod network'
  const commands = sources.map((one) => `firewall-cmd --permanent --zone=trusted --add-source=${one}`)
  return [
    wrong(
      'firewalld',
      'warning',
      { code: 'firewalld-without-pods', network },
      ['firewalld runs'],
      commands.length === 0 ? [] : [...commands, 'firewall-cmd --reload'],
    ),
  ]
}
