import { styleText } from 'node:util'

/** Meaning, not colour: what a piece of output is. */
export type Style = 'heading' | 'good' | 'bad' | 'warning' | 'dim' | 'name'

const FORMATS = {
  heading: 'bold',
  good: 'green',
  bad: 'red',
  warning: 'yellow',
  dim: 'dim',
  name: 'cyan',
} as const satisfies Record<Style, string>

/**
 * Colours `text` for a terminal. On a stream that is none, or with NO_COLOR (https://no-color.org), it stays as it is;
 * FORCE_COLOR colours it anyway.
 */
export function style(as: Style, text: string, stream: NodeJS.WriteStream = process.stdout): string {
  return styleText(FORMATS[as], text, { stream })
}
