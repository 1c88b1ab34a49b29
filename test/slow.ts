/** How many times slower than a machine of our own this one is: where every instruction is emulated, waits have to be longer. */
export const slowness = Math.max(1, Number(process.env['HEDDLE_TEST_SLOW'] ?? '1') || 1)
