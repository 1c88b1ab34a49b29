import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'

import { controllerMetrics } from './controller-metrics.ts'
import { controllerOptions, type ControllerFlags } from './options.ts'

const ROUTER = { router: 'r1', podCidr: ['10.9.0.0/16'], routeStrategy: 'per-pod' }

test('defaults', () => {
  const { routes, gc, floating, ...rest } = controllerOptions({ ...ROUTER, clusterName: 'blue' })
  assert.deepEqual(routes, {
    router: 'r1',
    site: { strategy: 'per-pod', podCidrs: ['10.9.0.0/16'], nodeCidrs: [] },
    aggregation: 'exact',
    maxRoutes: 30,
    reserve: 2,
  })
  assert.deepEqual(gc, { clusterName: 'blue', limit: 20, dryRun: false })
  assert.equal(floating, undefined)
  assert.deepEqual(
    [rest.leaseName, rest.leaseDuration, rest.resyncInterval, rest.gcInterval, rest.logLevel],
    ['heddle-controller', 15_000, 60_000, 300_000, 'info'],
  )
  assert.notEqual(rest.identity, controllerOptions({ clusterName: 'blue' }).identity)
})

test('without a name of the cluster nothing is collected; without anything to do it says so', () => {
  assert.equal(controllerOptions(ROUTER).gc, undefined)
  assert.equal(controllerOptions({ ...ROUTER, clusterName: 'blue', gcInterval: '0' }).gc, undefined)
  assert.throws(() => controllerOptions({}), /nothing to do/)
})

test('what cannot be is refused, and the flag is named', () => {
  const cases: readonly (readonly [string, ControllerFlags])[] = [
    ['--router is missing', { routeStrategy: 'per-pod' }],
    ['--router is "a/b"', { ...ROUTER, router: 'a/b' }],
    ['--pod-cidr is missing', { router: 'r1' }],
    ['--pod-cidr is "10.9"', { ...ROUTER, podCidr: ['10.9'] }],
    ['--node-cidr is "x"', { ...ROUTER, nodeCidr: ['x'] }],
    ['--route-strategy is "all"', { ...ROUTER, routeStrategy: 'all' }],
    ['--aggregate is "much"', { ...ROUTER, aggregate: 'much' }],
    ['--max-routes is "0"', { ...ROUTER, maxRoutes: '0' }],
    ['--route-reserve is "-1"', { ...ROUTER, routeReserve: '-1' }],
    ['--lease-duration is "1"', { ...ROUTER, leaseDuration: '1' }],
    ['--gc-limit is "1e3"', { clusterName: 'blue', gcLimit: '1e3' }],
    ['--cluster-name is "Blue"', { clusterName: 'Blue' }],
    ['--cluster-name is "unnamed"', { clusterName: 'unnamed' }],
    ['--cluster-name is missing', { ...ROUTER, floatingIps: true }],
    ['--floating-network is "a b"', { clusterName: 'blue', floatingIps: true, floatingNetwork: 'a b' }],
    ['--health-listen is "x"', { ...ROUTER, healthListen: 'x' }],
    ['--log-level is "loud"', { ...ROUTER, logLevel: 'loud' }],
    ['--namespace is "../x"', { ...ROUTER, namespace: '../x' }],
  ]
  for (const [message, flags] of cases) assert.throws(() => controllerOptions(flags), { code: 'bad-option', message })
})

test('docs/metrics.md names every metric of the controller, and no other', () => {
  const text = readFileSync(new URL('../../docs/metrics.md', import.meta.url), 'utf8')
  const [, section = ''] = text.split('\n## The controller\n')
  const documented = new Set([...section.matchAll(/^\| `(heddle_[a-z0-9_]+)` /gm)].map(([, name]) => name))
  assert.deepEqual(documented, new Set(controllerMetrics({ version: '0', node: 'v0' }).registry.names()))
})
