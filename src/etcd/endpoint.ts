/** Where etcd is, and how to speak to it. */

import { readFileSync } from 'node:fs'
import type { SecureClientSessionOptions } from 'node:http2'

import { EtcdError } from './errors.ts'

export interface TlsFiles {
  /** Certificate authorities; the machine's own where there is none. */
  readonly ca?: string | undefined
  /** The client's certificate and key, both or neither. */
  readonly cert?: string | undefined
  readonly key?: string | undefined
}

/** A URL without a path. Throws EtcdError `config`. */
export function parseEndpoint(text: string): URL {
  const url = URL.parse(text.includes('://') ? text : `http://${text}`)
  if (
    url === null ||
    (url.protocol !== 'http:' && url.protocol !== 'https:') ||
    (url.pathname !== '/' && url.pathname !== '') ||
    url.username !== '' ||
    url.search !== ''
  )
    throw new EtcdError(
      'config',
      'etcd',
      `${JSON.stringify(text.slice(0, 200))} is no endpoint; write http://HOST:PORT or https://HOST:PORT`,
    )
  return url
}

/** Read anew for each connection, so that renewed certificates are taken. Throws EtcdError `config`. */
export function tlsOptions({ ca, cert, key }: TlsFiles): SecureClientSessionOptions {
  const read = (path: string): Buffer => {
    try {
      return readFileSync(path)
    } catch (error) {
      throw new EtcdError('config', 'etcd', `${path} cannot be read: ${String(error)}`, {
        isUnsent: true,
        cause: error,
      })
    }
  }
  return {
    minVersion: 'TLSv1.2',
    ...(ca === undefined ? {} : { ca: read(ca) }),
    ...(cert === undefined ? {} : { cert: read(cert) }),
    ...(key === undefined ? {} : { key: read(key) }),
  }
}
