/** The suite on a cloud that is running already: `HEDDLE_TEST_OS_AUTH_URL`, with users admin and demo as the fake has them. */

import { cloudSuite } from './suite.ts'
import { userOf } from './target.ts'

const url = process.env['HEDDLE_TEST_OS_AUTH_URL'] ?? ''
const secret = process.env['HEDDLE_TEST_OS_ADMIN_PASSWORD'] ?? 'secret'
const skip = url === '' ? 'HEDDLE_TEST_OS_AUTH_URL names no cloud' : false

cloudSuite(
  'given',
  () =>
    Promise.resolve({
      name: 'given',
      admin: userOf(url, 'admin', secret, 'admin'),
      member: userOf(url, 'demo', 'dpass', 'demo'),
      [Symbol.asyncDispose]: () => Promise.resolve(),
    }),
  skip,
)
