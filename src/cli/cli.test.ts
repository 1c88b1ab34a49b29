import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { describe as group, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { stripVTControlCharacters } from 'node:util'

import { Command } from 'commander'
import fc from 'fast-check'

import { CliError } from './fail.ts'
import { languageOf, messagesIn, parseLanguage, takeLanguage } from './language.ts'
import { en } from './messages/en.ts'
import { zh } from './messages/zh.ts'
import { programFor, wantedCommand } from './program.ts'
import { describe } from './report.ts'
import { table } from './table.ts'
import { version } from './version.ts'
import { printable, widthOf } from './width.ts'

const main = fileURLToPath(new URL('main.ts', import.meta.url))

function heddle(args: readonly string[], env: Readonly<Record<string, string>> = {}) {
  const { status, stdout, stderr } = spawnSync(process.execPath, ['--no-warnings', main, ...args], {
    encoding: 'utf8',
    env: { PATH: process.env['PATH'] ?? '', ...env },
    timeout: 30_000,
  })
  return { status, stdout, stderr }
}

group('the heddle command', () => {
  it('has the version of package.json', () => {
    const manifest: unknown = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'))
    assert.ok(typeof manifest === 'object' && manifest !== null && 'version' in manifest)
    assert.equal(manifest.version, version)
    assert.deepEqual(heddle(['--version']), { status: 0, stdout: `${version}\n`, stderr: '' })
  })

  it('lists its commands, in Chinese where asked', () => {
    const english = heddle(['--help'])
    assert.equal(english.status, 0)
    for (const name of ['lab', 'cni', 'agent']) assert.match(english.stdout, new RegExp(`^ {2}${name} `, 'm'))
    assert.match(english.stdout, /^Usage: heddle/)
    assert.match(heddle([], { LANG: 'zh_CN.UTF-8' }).stdout, /^用法： heddle/)
    assert.match(heddle(['--help', '--lang', 'zh'], { LC_ALL: 'C' }).stdout, /节点代理/)
  })

  it('colours for terminals only, unless told otherwise', () => {
    const coloured = (env: Readonly<Record<string, string>>) => heddle(['--help'], env).stdout.includes('\u001b[')
    assert.equal(coloured({}), false)
    assert.equal(coloured({ FORCE_COLOR: '1' }), true)
    assert.equal(coloured({ NO_COLOR: '1' }), false)
  })

  it('answers a wrong command line with code 2 on standard error', () => {
    for (const args of [['lbo'], ['--nonsense'], ['--lang', 'xx', 'lab'], ['--lang']]) {
      const { status, stdout, stderr } = heddle(args)
      assert.equal(status, 2, args.join(' '))
      assert.equal(stdout, '')
      assert.match(stderr, /error|heddle:/)
    }
  })

  it('loads only the command that is asked for', async () => {
    const loaded: string[] = []
    const lazy = (name: string) => ({
      summary: 'lab.summary' as const,
      load: () => {
        loaded.push(name)
        return Promise.resolve(new Command(name).addCommand(new Command('up').option('--nodes <n>')))
      },
    })
    const commands = { lab: lazy('lab'), cni: lazy('cni') }
    await programFor(['--help'], commands)
    assert.deepEqual(loaded, [])
    const program = await programFor(['lab', 'up', '--nodes', '3'], commands)
    assert.deepEqual(loaded, ['lab'])
    assert.equal(program.commands.find((command) => command.name() === 'lab')?.commands[0]?.name(), 'up')
    assert.equal(wantedCommand(['help', 'cni']), 'cni')
    assert.equal(wantedCommand(['-V']), undefined)
  })
})

group('languages', () => {
  it('have the same keys and placeholders', () => {
    const names = (text: string) =>
      [...text.matchAll(/\{(\w+)\}/g)].map((match) => match[1] ?? '').toSorted((a, b) => a.localeCompare(b))
    assert.deepEqual(new Set(Object.keys(zh)), new Set(Object.keys(en)))
    for (const [key, text] of Object.entries(en)) {
      const translated = Object.entries(zh).find(([other]) => other === key)?.[1]
      assert.ok(translated, key)
      assert.deepEqual(names(translated), names(text), key)
    }
  })

  it('come from --lang, then LC_ALL, LC_MESSAGES, LANG', () => {
    assert.equal(languageOf({ LANG: 'zh_CN.UTF-8' }), 'zh')
    assert.equal(languageOf({ LANG: 'zh_CN.UTF-8', LC_ALL: 'C.UTF-8' }), 'en')
    assert.equal(languageOf({ LANG: 'zh_CN.UTF-8', LC_ALL: '' }), 'zh')
    assert.equal(languageOf({ LANG: 'de_DE' }), 'en')
    assert.equal(parseLanguage('zh-Hans'), 'zh')
    assert.equal(parseLanguage('zhang'), undefined)
    assert.deepEqual(takeLanguage(['lab', '--lang=zh', 'up'], {}), { language: 'zh', rest: ['lab', 'up'] })
    assert.deepEqual(takeLanguage(['--lang', 'en', 'lab'], { LANG: 'zh' }), { language: 'en', rest: ['lab'] })
  })

  it('leave what follows -- alone', () => {
    const args = ['lab', 'exec', 'pod', '--', 'ls', '--lang', 'zh']
    assert.deepEqual(takeLanguage(args, {}), { language: 'en', rest: args })
  })

  it('fill in values, once', () => {
    assert.equal(messagesIn('en')('fail.why', { why: '{why} $&' }), 'Why: {why} $&')
    assert.equal(messagesIn('zh')('fail.remedy', { remedy: 'x' }), '处理办法：x')
  })
})

group('tables', () => {
  const columns = [
    { title: 'NAME', value: (row: { name: string }) => row.name },
    { title: 'N', value: (row: { n?: number }) => row.n, align: 'right' as const },
  ]

  it('line up Chinese, absent values and numbers', () => {
    assert.equal(
      stripVTControlCharacters(table(columns, [{ name: '节点一', n: 12 }, { name: 'worker' }])),
      ['NAME     N', '节点一  12', 'worker   -'].join('\n'),
    )
  })

  it('have cells of one width whatever the text', () => {
    fc.assert(
      fc.property(fc.array(fc.string({ unit: 'binary' }), { minLength: 1 }), (names) => {
        const rows = names.map((name) => ({ name, n: 1 }))
        const lines = stripVTControlCharacters(table(columns, rows)).split('\n')
        assert.equal(lines.length, names.length + 1)
        assert.equal(new Set(lines.map(widthOf)).size, 1)
      }),
    )
  })

  it('let no control character through', () => {
    assert.equal(printable('a\u001b[2Jb\r\n\u202ec'), 'a\\x1b[2Jb\\x0d\\x0a\\u202ec')
    assert.equal(widthOf('e\u0301中🙂'), 5)
  })
})

group('errors', () => {
  it('say what, why and what to do', () => {
    const cause = new Error('connect ECONNREFUSED')
    const error = new CliError('UNAVAILABLE', 'node-1: no answer', { remedy: 'heddle lab up', cause })
    const lines = stripVTControlCharacters(describe(error)).split('\n')
    assert.equal(lines[0], 'heddle: node-1: no answer')
    assert.match(lines[1] ?? '', /ECONNREFUSED/)
    assert.match(lines[2] ?? '', /heddle lab up/)
  })

  it('say a remedy once, and know CNI errors with their number', () => {
    const error = Object.assign(new Error('no subnet.env; start the agent'), { code: 11, remedy: 'start the agent' })
    assert.equal(stripVTControlCharacters(describe(error)), 'heddle: no subnet.env; start the agent')
  })

  it('show a stack only where nobody foresaw them, and no escape sequences', () => {
    assert.match(describe(new TypeError('x is undefined')), /cli\.test\.ts/)
    assert.doesNotMatch(describe(new CliError('FAILED', 'bad')), /cli\.test\.ts/)
    assert.ok(stripVTControlCharacters(describe(new CliError('FAILED', '\u001b[2J'))).includes('\\x1b[2J'))
  })
})
