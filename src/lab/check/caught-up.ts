/** The thread of a check asks and answers: on a busy machine it may be late for both. */

import { setImmediate } from 'node:timers/promises'

/** A few rounds of the event loop, which deliver what has come before anybody is given up: timers are looked at before sockets. */
export async function caughtUp(): Promise<void> {
  for (let round = 0; round < 4; round++) await setImmediate()
}
