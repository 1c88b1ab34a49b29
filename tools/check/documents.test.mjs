import assert from 'node:assert/strict'
import { describe, it } from 'node:test'

import { brokenLinks, differences, outlineOf } from './documents.mjs'

const english = '# A\n\n```sh\nnpm start   # goes\nnpm test\n```\n\n## B\n'

describe('documents', () => {
  it('reads headings and commands, not the comments in code', () => {
    assert.deepEqual(outlineOf(`${english}\n\`\`\`\n# no heading\n\`\`\`\n`), {
      headings: [1, 2],
      commands: ['npm start', 'npm test'],
    })
  })

  it('accepts a translation with the same shape', () => {
    assert.deepEqual(differences(english, '# 甲\n\n```sh\nnpm start  # 启动\nnpm test\n```\n\n## 乙\n', ['a', 'b']), [])
  })

  it('finds a lost heading and a lost command', () => {
    const problems = differences(english, '# 甲\n```sh\nnpm start\n```\n', ['a.md', 'b.md'])
    assert.equal(problems.length, 2)
    assert.match(problems[0], /headings/)
    assert.match(problems[1], /b.md lacks the command: npm test/)
  })

  it('finds links that lead to nothing', () => {
    const exists = (path) => path === 'docs/a.md'
    assert.deepEqual(brokenLinks('docs/x.md', '[a](a.md#b) [c](https://c) [d](d.md)', exists), [
      'docs/x.md: d.md does not exist',
    ])
  })
})
