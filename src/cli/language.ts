import { en } from './messages/en.ts'
import type { Catalogue, MessageKey, Placeholder } from './messages/en.ts'
import { zh } from './messages/zh.ts'
import { usageError } from './fail.ts'

export type Language = 'en' | 'zh'

const catalogues: Readonly<Record<Language, Catalogue>> = { en, zh }

/** A language's name as people and locales write it: `zh`, `zh-CN`, `zh_CN.UTF-8`, `en_GB`, `C`. */
export function parseLanguage(text: string): Language | undefined {
  const name = /^[a-z]+/.exec(text.toLowerCase())?.[0]
  if (name === 'zh') return 'zh'
  return name === 'en' || name === 'c' || name === 'posix' ? 'en' : undefined
}

/** From the environment as POSIX orders it: LC_ALL, LC_MESSAGES, LANG; the first that is set decides. */
export function languageOf(environment: Readonly<Record<string, string | undefined>>): Language {
  const set = [environment['LC_ALL'], environment['LC_MESSAGES'], environment['LANG']].find((value) => value)
  return parseLanguage(set ?? 'en') ?? 'en'
}

/**
 * Takes `--lang X` or `--lang=X` out of a command line, wherever it stands before `--`, so that every command has it.
 *
 * @throws {CliError} USAGE for a language that there is no catalogue of
 */
export function takeLanguage(
  args: readonly string[],
  environment: Readonly<Record<string, string | undefined>>,
): { readonly language: Language; readonly rest: string[] } {
  const end = args.indexOf('--')
  const own = end < 0 ? args : args.slice(0, end)
  const index = own.findIndex((argument) => argument === '--lang' || argument.startsWith('--lang='))
  const found = own[index]
  if (found === undefined) return { language: languageOf(environment), rest: [...args] }
  const inline = found.startsWith('--lang=')
  const value = inline ? found.slice('--lang='.length) : (own[index + 1] ?? '')
  const language = parseLanguage(value)
  if (language === undefined) {
    throw usageError(
      `--lang ${value === '' ? 'needs a value' : `"${value}" is not known`}`,
      'use --lang en or --lang zh',
    )
  }
  return { language, rest: [...args.slice(0, index), ...args.slice(index + (inline ? 1 : 2))] }
}

type Values<K extends MessageKey> = [Placeholder<K>] extends [never]
  ? readonly []
  : readonly [values: Readonly<Record<Placeholder<K>, string | number>>]

/** Gives a message by key, its `{placeholders}` filled in. */
export type Translate = <K extends MessageKey>(key: K, ...values: Values<K>) => string

/** Like gettext: the messages of one language. */
export function messagesIn(language: Language): Translate {
  const catalogue = catalogues[language]
  return (key, ...values) => {
    const [given] = values
    return filled(catalogue[key], given ?? {})
  }
}

/** A message whose values come as data; a placeholder without a value stays. */
export const fill = (key: MessageKey, values: Readonly<Record<string, string>>): string =>
  filled(catalogues[current][key], values)

const filled = (template: string, values: Readonly<Record<string, string | number>>): string =>
  template.replace(/\{(\w+)\}/g, (whole, name: string) => String(values[name] ?? whole))

let current: Language = languageOf(process.env)

/** The language of this process, for `say`; main sets it once, from `--lang`. */
export function useLanguage(language: Language): void {
  current = language
}

export const currentLanguage = (): Language => current

/** A message in the language of this process. */
export const say: Translate = (key, ...values) => messagesIn(current)(key, ...values)
