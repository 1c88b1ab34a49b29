import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { ipText } from '#ip/address.ts'
import type { PodView } from '#lab/check/view.ts'
import type { Way } from '#lab/way.ts'
import { useLanguage } from './language.ts'
import { otherSideLines, wayLines, wrap } from './lab-way.ts'
import { widthOf } from './width.ts'

const pod = (n: number): PodView => ({
  name: `pod-${n}-1`,
  namespace: `t-pod-${n}-1`,
  node: `worker-${n}`,
  ips: [ipText(`10.244.${n}.2`)],
  mtu: 1450,
})

const way: Way = {
  from: pod(1),
  to: pod(2),
  source: ipText('10.244.1.2'),
  destination: ipText('10.244.2.2'),
  outer: {
    protocol: 'vxlan',
    source: ipText('172.30.1.11'),
    destination: ipText('172.30.1.12'),
    port: 8472,
    vni: 1,
  },
  stops: [
    {
      place: 'pod-1-1',
      entries: [
        {
          meaning: 'pod-route',
          command: 'ip route',
          line: 'default via 10.244.1.1',
          values: { gateway: '10.244.1.1' },
        },
      ],
    },
    {
      place: 'worker-1',
      entries: [
        { meaning: 'tunnel-fdb', command: 'bridge fdb', line: undefined, values: { mac: '?', remote: '172.30.1.12' } },
      ],
    },
    { place: 'worker-2', entries: [] },
  ],
}

test('the page names every place, shows each entry as its command prints it, and says so when there is none', () => {
  const text = wayLines(way).join('\n')
  assert.match(text, /from pod-1-1 \(10\.244\.1\.2\) to pod-2-1 \(10\.244\.2\.2\)/)
  assert.match(text, /\$ ip route\n +default via 10\.244\.1\.1\n +All that is not .* goes to 10\.244\.1\.1/)
  assert.match(text, /\$ bridge fdb\n +\(the kernel has no such entry\)/)
  assert.match(text, /outer 172\.30\.1\.11 → 172\.30\.1\.12, UDP port 8472, VNI 1/)
  assert.doesNotMatch(text, /[{}]/, 'no placeholder is left')
  assert.match(otherSideLines(way).join('\n'), /in worker-1, .*pod-2-1/)
})

test('in Chinese too, with nothing left open', () => {
  useLanguage('zh')
  try {
    const text = wayLines(way).join('\n')
    assert.match(text, /外层 172\.30\.1\.11/)
    assert.doesNotMatch(text, /[{}]/)
  } finally {
    useLanguage('en')
  }
})

test('wrapped lines keep to the width where words allow it, and lose nothing', () => {
  fc.assert(
    fc.property(fc.array(fc.stringMatching(/^[a-z，。中文]{1,12}$/), { maxLength: 30 }), (words) => {
      const text = words.join(' ')
      const lines = wrap(text, 30)
      assert.equal(lines.join('').replaceAll(' ', ''), text.replaceAll(' ', ''))
      for (const line of lines) assert.ok(widthOf(line) <= 30, line)
    }),
  )
})
