export const MOST_LINES = 400

/** @returns {string[]} the files that are longer than a reader holds in mind */
export function tooLong(sources) {
  return [...sources]
    .map(([file, text]) => ({ file, lines: text.trimEnd().split('\n').length }))
    .filter(({ file, lines }) => lines > MOST_LINES && !file.endsWith('.test.ts'))
    .map(({ file, lines }) => `${file}: ${lines} lines, over ${MOST_LINES}: split it by noun`)
}
