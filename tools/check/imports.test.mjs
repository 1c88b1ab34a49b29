import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'

import { root } from '../paths.mjs'
import { floorOf, floors } from './floors.mjs'
import { checkImports, importsOf, withoutComments } from './imports.mjs'

const manifest = { dependencies: { valibot: '1' }, devDependencies: { 'kubernetes-types': '1', esbuild: '0' } }
const check = (files) => checkImports(new Map(Object.entries(files)), manifest)

describe('importsOf', () => {
  it('finds every form with its line', () => {
    const source = [
      "import a from './a.ts'",
      "import type { B } from '#b/b.ts'",
      'import {',
      '  c,',
      "} from './c.ts'",
      "export * from './d.ts'",
      "export { e } from './e.ts'",
      "import './f.ts'",
      "const g = await import('./g.ts')",
      "type H = import('./h.ts').H",
      "import { type I, type J } from './i.ts'",
      "import { type K, l } from './k.ts'",
    ].join('\n')
    assert.deepEqual(
      importsOf(source)
        .toSorted((a, b) => a.line - b.line)
        .map(({ specifier, line, typeOnly }) => `${line} ${specifier}${typeOnly ? ' type' : ''}`),
      [
        '1 ./a.ts',
        '2 #b/b.ts type',
        '5 ./c.ts',
        '6 ./d.ts',
        '7 ./e.ts',
        '8 ./f.ts',
        '9 ./g.ts',
        '10 ./h.ts',
        '11 ./i.ts type',
        '12 ./k.ts',
      ],
    )
  })

  it('takes neither comments nor exported text for imports', () => {
    const source =
      "// import a from './a.ts'\n/* import('./b.ts') */\nexport const url = 'http://x'\nexport const y = 'from'\n"
    assert.deepEqual(importsOf(source), [])
    assert.equal(withoutComments("const u = 'http://x' // y"), "const u = 'http://x'     ")
  })
})

describe('checkImports', () => {
  it('accepts a lower floor, the same folder, packages and node:', () => {
    assert.deepEqual(
      check({
        'src/state/diff.ts':
          "import { a } from '#ip/text.ts'\nimport { b } from './entry.ts'\nimport * as v from 'valibot'\nimport { c } from 'node:fs'\nimport type { Node } from 'kubernetes-types/core/v1'\n",
        'src/cli/main.ts': "await import('#agent/agent.ts')\n",
      }),
      [],
    )
  })

  it('refuses a higher floor, for types and for import() too', () => {
    assert.deepEqual(
      check({
        'src/ip/address.ts': "import type { Entry } from '#state/entry.ts'\n",
        'src/state/apply.ts': "\nconst x = await import('#agent/agent.ts')\n",
      }),
      [
        'src/ip/address.ts:1: ip is below state and must not import it',
        'src/state/apply.ts:2: state is below agent and must not import it',
      ],
    )
  })

  it('refuses folders of one floor that import each other', () => {
    const problems = check({
      'src/ipam/a.ts': "import { x } from '#plugins/b.ts'\n",
      'src/plugins/b.ts': "import { y } from '#ipam/a.ts'\n",
    })
    assert.deepEqual(problems, [
      'src/plugins/b.ts:1: plugins and ipam import each other (the other way: src/ipam/a.ts:1)',
    ])
  })

  it('refuses relative ways into other folders, unknown packages, development packages at run time, and unknown folders', () => {
    const problems = check({
      'src/nft/table.ts':
        "import { a } from '../ip/text.ts'\nimport b from 'left-pad'\nimport c from 'esbuild'\nimport d from 'fs'\nimport { e } from '#attic/e.ts'\nimport { f } from '#ip/f.test.ts'\nimport g from '../../tools/g.ts'\n",
    })
    assert.equal(problems.length, 7)
    assert.match(problems[0], /"#ip\/text.ts"/)
    assert.match(problems[1], /"left-pad" is no dependency/)
    assert.match(problems[2], /"esbuild" is only a devDependency/)
    assert.match(problems[3], /node: prefix/)
    assert.match(problems[4], /src\/attic has no floor/)
    assert.match(problems[5], /is a test/)
    assert.match(problems[6], /leads out of src/)
  })

  it('lets a test look upwards', () => {
    assert.deepEqual(
      check({ 'src/cni/runtime.test.ts': "import { r } from '#plugins/registry.ts'\nimport fc from 'fast-check'\n" }),
      [],
    )
  })
})

describe('the floors', () => {
  it('hold every folder of src, once', () => {
    const folders = readdirSync(join(root, 'src'), { withFileTypes: true }).filter((entry) => entry.isDirectory())
    assert.ok(folders.length > 5)
    for (const { name } of folders) assert.notEqual(floorOf(name), undefined, `src/${name} has no floor`)
    assert.equal(new Set(floors.flat()).size, floors.flat().length)
  })
})
