/** How much a note of the relay's matters; the agent writes it into its own log. */
export const LOG_LEVELS = ['info', 'warn', 'error'] as const
export type NoteLevel = (typeof LOG_LEVELS)[number]
