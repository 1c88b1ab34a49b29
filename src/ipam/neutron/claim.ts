/**
 * Who writes a port, told by a tag on it. The lock file excludes programs that use the same file; the tag also those that use another. A bare `{subnet_id}` of two
 * writers brings one address to both, and no revision shows it: so the second must not start.
 *
 * A claim of another boot of the machine is over, with the pods of then.
 */

import { addTag, removeTag } from '#openstack/neutron/tag.ts'
import { isCode } from '#openstack/errors.ts'
import type { Port } from '#openstack/neutron/port.ts'
import type { CloudApi } from './cloud.ts'

const PREFIX = 'heddle-ipam='

export interface Claimant {
  readonly boot: string
  readonly writer: string
}

/** Another program of this boot writes the port. */
export class ClaimError extends Error {
  override readonly name = 'ClaimError'
  readonly code = 'claimed'
}

export const claimTag = ({ boot, writer }: Claimant): string => `${PREFIX}${boot.slice(0, 18)}.${writer}`
export const claimsOf = (tags: readonly string[]): readonly string[] => tags.filter((tag) => tag.startsWith(PREFIX))

export type Standing = 'mine' | 'none' | 'earlier' | 'taken'

/** What the claims on a port mean to a claimant; `taken` before all. */
export function standingOf(claims: readonly string[], claimant: Claimant): Standing {
  const mine = claimTag(claimant)
  const others = claims.filter((tag) => tag !== mine)
  if (others.some((tag) => tag.startsWith(`${PREFIX}${claimant.boot.slice(0, 18)}.`))) return 'taken'
  if (others.length > 0) return 'earlier'
  return claims.length > 0 ? 'mine' : 'none'
}

export const takenError = (port: string, claims: readonly string[]): ClaimError =>
  new ClaimError(
    `another program of this host keeps port ${port} (its tag ${claims.join(', ')}): stop it and give this one its stateDir; ` +
      `where that is lost, remove its pods and then the tag: openstack port unset --tag ${claims[0] ?? ''} ${port}`,
  )

/**
 * Claims the port: sets the tag, looks whether another is there, and takes it back if so; of two at once at least one sees the other. Answers whether tags can be set, and
 * whether an earlier life of this machine had it. @throws ClaimError; OpenStackError
 */
export async function claim(
  api: CloudApi,
  port: Port,
  claimant: Claimant,
): Promise<{ readonly claimable: boolean; readonly earlier: boolean }> {
  const mine = claimTag(claimant)
  const others = (claims: readonly string[]): readonly string[] => claims.filter((tag) => tag !== mine)
  let claims = claimsOf(port.tags)
  if (standingOf(claims, claimant) === 'taken') throw takenError(port.id, others(claims))
  const earlier = others(claims)
  try {
    if (!claims.includes(mine)) {
      await addTag(api.client, 'ports', port.id, mine, await api.turn())
      claims = claimsOf((await api.ports.get(port.id, await api.turn())).tags)
      if (standingOf(claims, claimant) === 'taken') {
        await removeTag(api.client, 'ports', port.id, mine, await api.turn()).catch(() => undefined)
        throw takenError(port.id, others(claims))
      }
    }
    for (const tag of earlier) {
      try {
        await removeTag(api.client, 'ports', port.id, tag, await api.turn())
      } catch (error) {
        if (!isCode(error, 'not-found')) throw error
      }
    }
  } catch (error) {
    // A cloud without tags on ports, or a policy against them: the lock file alone has to do.
    if (isCode(error, 'not-found', 'forbidden', 'bad-request')) return { claimable: false, earlier: earlier.length > 0 }
    throw error
  }
  return { claimable: true, earlier: earlier.length > 0 }
}
