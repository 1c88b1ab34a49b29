import { randomBytes } from 'node:crypto'

/** From the kernel's source of randomness: who guesses a transaction number can answer in the server's place. */
export const random = (): number => randomBytes(4).readUInt32BE() / 0x1_0000_0000
