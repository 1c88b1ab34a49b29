/** WireGuard's keys: 32 bytes, as text in base64 (`wg genkey`, `wg pubkey`). Curve25519, RFC 7748. */

import { createPrivateKey, createPublicKey } from 'node:crypto'

import type { Codec } from '#codec/codec.ts'
import { bytes, mapped } from '#codec/codec.ts'
import { Secret } from '#sys/secret.ts'

declare const tag: unique symbol

/** A public key in canonical base64: 44 characters. */
export type WgKeyText = string & { readonly [tag]: 'WgKeyText' }

export const KEY_BYTES = 32

/** The canonical text, or undefined for what is no key: another length, other characters, bits after the end. */
export function tryWgKey(text: string): WgKeyText | undefined {
  return keyBytes(text) === undefined ? undefined : (text as WgKeyText)
}

/** 32 bytes from their text, or undefined. */
export function keyBytes(text: string): Uint8Array | undefined {
  if (text.length !== 44) return undefined
  const decoded = Buffer.from(text, 'base64')
  return decoded.length === KEY_BYTES && decoded.toString('base64') === text ? Uint8Array.from(decoded) : undefined
}

const textOf = (key: Uint8Array): string => Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString('base64')

/** PKCS #8 around a raw X25519 private key (RFC 8410). */
const PKCS8 = Buffer.from('302e020100300506032b656e04220420', 'hex')

/** Like `wg pubkey`. */
export function publicKeyOf(privateKey: Secret): WgKeyText {
  const key = createPrivateKey({
    key: Buffer.concat([PKCS8, privateKey.reveal()]),
    format: 'der',
    type: 'pkcs8',
  })
  const { x = '' } = createPublicKey(key).export({ format: 'jwk' })
  return textOf(Uint8Array.from(Buffer.from(x, 'base64url'))) as WgKeyText
}

/** Like `wg genkey`: 32 random bytes with the bits that Curve25519 wants set (RFC 7748, section 5). */
export function newPrivateKey(random: (size: number) => Uint8Array): Secret {
  const key = Uint8Array.from(random(KEY_BYTES))
  key[0] = (key[0] ?? 0) & 248
  key[31] = ((key[31] ?? 0) & 127) | 64
  return new Secret(key)
}

/** A private or preshared key from its text; undefined for what is none. White space around it is what an editor leaves. */
export function secretKey(text: string): Secret | undefined {
  const key = keyBytes(text.trim())
  return key === undefined ? undefined : new Secret(key)
}

/** The text of a private key, for its file. */
export const secretText = (key: Secret): string => textOf(key.reveal())

/** A public key on the wire. */
export const wgKey: Codec<WgKeyText> = mapped(
  'WireGuard key',
  bytes(KEY_BYTES),
  (key) => textOf(key) as WgKeyText,
  (text) => keyBytes(text) ?? new Uint8Array(),
)

/** A private or preshared key on the wire. */
export const wgSecret: Codec<Secret> = mapped(
  'WireGuard secret',
  bytes(KEY_BYTES),
  (key) => new Secret(key),
  (key) => key.reveal(),
)
