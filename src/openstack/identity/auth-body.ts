import type { Credential, Named } from '../config.ts'
import type { Secret } from '#sys/secret.ts'

const plain = (secret: Secret): string => Buffer.from(secret.reveal()).toString('utf8')

const reference = (named: Named): object =>
  'id' in named ? { id: named.id } : { name: named.name, domain: named.domain }

/** The body of `POST /v3/auth/tokens` (Identity API v3, "Authentication and token management"). It holds the secret: never log it. */
export function authBody(credential: Credential): object {
  switch (credential.kind) {
    case 'password':
      return {
        auth: {
          identity: {
            methods: ['password'],
            password: { user: { ...reference(credential.user), password: plain(credential.password) } },
          },
          scope: { project: reference(credential.project) },
        },
      }
    case 'application-credential': {
      const { credential: which, secret } = credential
      const named = 'id' in which ? { id: which.id } : { name: which.name, user: reference(which.user) }
      // No scope: the credential has one, and Keystone refuses another.
      return {
        auth: {
          identity: {
            methods: ['application_credential'],
            application_credential: { ...named, secret: plain(secret) },
          },
        },
      }
    }
    default:
      return {
        auth: {
          identity: { methods: ['token'], token: { id: plain(credential.token) } },
          ...(credential.project === undefined ? {} : { scope: { project: reference(credential.project) } }),
        },
      }
  }
}
