/** Regular expressions as operators write them for programs in Go (RE2), understood the same way here or refused. */

/** POSIX classes inside brackets, in ASCII as RE2 has them. */
const CLASSES: Readonly<Record<string, string>> = {
  alnum: '0-9A-Za-z',
  alpha: 'A-Za-z',
  digit: '0-9',
  lower: 'a-z',
  upper: 'A-Z',
  space: '\\t\\n\\v\\f\\r ',
  word: '0-9A-Za-z_',
  xdigit: '0-9A-Fa-f',
}

/**
 * Like `regexp.Compile`: what matches anywhere in a text. Throws SyntaxError for what is no expression, and for the few things that JavaScript would read as
 * something else (Unicode classes, quoted text, flags other than i, m and s at the beginning).
 */
export function goRegExp(text: string): RegExp {
  const [, flags = '', body = ''] = /^(?:\(\?([ims]+)\))?(.*)$/s.exec(text) ?? []
  const foreign = /\\[pPQEC]|\(\?[-imsU]|\[\[:\^/.exec(body.replaceAll('\\\\', ''))
  if (foreign !== null) throw new SyntaxError(`${JSON.stringify(foreign[0])} is not understood here`)
  return new RegExp(translate(body), flags)
}

/** Token by token, so that what follows a backslash is never taken for anything else. */
const translate = (body: string): string =>
  body.replaceAll(/\\.|\(\?P<|\[:\w+:\]/gs, (token) => {
    if (token === '\\A') return '^'
    if (token === '\\z') return '$'
    if (token === '(?P<') return '(?<'
    if (!token.startsWith('[:')) return token
    const members = CLASSES[token.slice(2, -2)]
    if (members === undefined) throw new SyntaxError(`${token} is not understood here`)
    return members
  })
