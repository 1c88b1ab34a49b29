import { posix } from 'node:path'

import { floorOf } from './floors.mjs'

/**
 * `import … from 'x'`, `export … from 'x'`, `import 'x'`, and `import('x')` as an expression or a type. A statement begins
 * its line (the formatter sees to it), and its clause holds neither quotes nor semicolons, so a match cannot run from one
 * statement into the next.
 */
const STATIC = /^[ \t]*(import|export)\s+(?:(type\s)?([^'";]*?)\s*from\s*)?['"]([^'"\n]+)['"]/gm
const DYNAMIC = /\bimport\s*\(\s*['"`]([^'"`\n]+)['"`]/g

/** Blanks comments without moving a line; text in quotes stays, so a `//` inside it is none. */
export function withoutComments(source) {
  return source.replace(
    /('(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|`(?:\\.|[^`\\])*`)|\/\*[\s\S]*?\*\/|\/\/[^\n]*/g,
    (whole, quoted) => quoted ?? whole.replace(/[^\n]/g, ' '),
  )
}

/** @returns {{ specifier: string, line: number, typeOnly: boolean }[]} every import of a source text */
export function importsOf(source) {
  const text = withoutComments(source)
  const lineAt = (index) => text.slice(0, index).split('\n').length
  const found = []
  for (const match of text.matchAll(STATIC)) {
    const [whole, , type, clause, specifier] = match
    // `export const x = 'y'` has no `from`, and is no import.
    if (match[1] === 'export' && clause === undefined) continue
    const named = /^\{([^}]*)\}$/.exec((clause ?? '').trim())?.[1]
    const allTypes =
      named !== undefined && named.trim() !== '' && named.split(',').every((name) => /^\s*(type\s|$)/.test(name))
    found.push({ specifier, line: lineAt(match.index + whole.length), typeOnly: type !== undefined || allTypes })
  }
  for (const match of text.matchAll(DYNAMIC)) {
    found.push({ specifier: match[1], line: lineAt(match.index), typeOnly: false })
  }
  return found
}

/** The file inside the checkout that a specifier names, or undefined for packages and `node:`. */
function target(file, specifier) {
  if (specifier.startsWith('#')) return posix.join('src', specifier.slice(1))
  if (specifier.startsWith('.')) return posix.join(posix.dirname(file), specifier)
  return undefined
}

const folderOf = (file) => /^src\/([^/]+)\//.exec(file)?.[1]
const packageOf = (specifier) => specifier.split('/', specifier.startsWith('@') ? 2 : 1).join('/')
const isTest = (file) => file.endsWith('.test.ts')

function brokenRule(file, { specifier, typeOnly }, manifest) {
  const to = target(file, specifier)
  if (to === undefined) {
    if (specifier.startsWith('node:') || isTest(file)) return undefined
    const name = packageOf(specifier)
    if (manifest.dependencies?.[name] !== undefined) return undefined
    if (manifest.devDependencies?.[name] === undefined)
      return `"${specifier}" is no dependency in package.json (Node's own modules need the node: prefix)`
    return typeOnly ? undefined : `"${name}" is only a devDependency: import its types, or make it a dependency`
  }
  const from = folderOf(file)
  if (!to.startsWith('src/')) return isTest(file) ? undefined : `${specifier} leads out of src`
  const folder = folderOf(to)
  if (folder === from) return undefined
  if (specifier.startsWith('.'))
    return `another folder is imported as "#${to.slice('src/'.length)}", not as "${specifier}"`
  // A test may look at the floors above it: nothing that runs depends on a test.
  if (isTest(file)) return undefined
  if (isTest(to)) return `${to} is a test`
  if (folder === undefined) return `${to} lies in no folder of src`
  const above = floorOf(folder)
  const here = floorOf(from)
  if (above === undefined) return `src/${folder} has no floor: give it one in tools/check/floors.mjs`
  if (here === undefined) return `src/${from} has no floor: give it one in tools/check/floors.mjs`
  return above > here ? `${from} is below ${folder} and must not import it` : undefined
}

/**
 * The import rules over the whole of src.
 *
 * @param {ReadonlyMap<string, string>} sources path from the root → text
 * @param {{ dependencies?: object, devDependencies?: object }} manifest package.json
 * @returns {string[]} one line per broken rule: file:line: rule
 */
export function checkImports(sources, manifest) {
  const problems = []
  /** 'from to' → where it was first seen, for folders of one floor. */
  const sideways = new Map()
  for (const [file, source] of sources) {
    for (const found of importsOf(source)) {
      const broken = brokenRule(file, found, manifest)
      if (broken !== undefined) problems.push(`${file}:${found.line}: ${broken}`)
      const from = folderOf(file)
      const to = folderOf(target(file, found.specifier) ?? '')
      if (from === undefined || to === undefined || from === to || isTest(file) || floorOf(from) !== floorOf(to))
        continue
      if (!sideways.has(`${from} ${to}`)) sideways.set(`${from} ${to}`, `${file}:${found.line}`)
      const back = sideways.get(`${to} ${from}`)
      if (back !== undefined)
        problems.push(`${file}:${found.line}: ${from} and ${to} import each other (the other way: ${back})`)
    }
  }
  return problems
}
