/** A small registry of counters, gauges and histograms, printed as OpenMetrics or in Prometheus' older text format. */

export type Labels = Readonly<Record<string, string>>

/** Label sets of one metric; more fall into one that says so, because labels may come from outside (a CNI code, say). */
const MAX_SERIES = 500

export interface MetricInfo {
  readonly name: string
  readonly help: string
  /** Base unit, as the last word of the name: `seconds`, `bytes`. */
  readonly unit?: string
}

interface Metric {
  readonly info: MetricInfo
  readonly type: 'counter' | 'gauge' | 'histogram'
  samples(): Iterable<Sample>
}

/** `suffix` is appended to the metric's name. */
interface Sample {
  readonly suffix: string
  readonly labels: string
  readonly value: number
}

class Series<T> {
  readonly #byLabels = new Map<string, T>()
  readonly #make: () => T

  constructor(make: () => T) {
    this.#make = make
  }

  at(labels: Labels): T {
    const wanted = labelText(labels)
    const known = this.#byLabels.get(wanted)
    if (known !== undefined) return known
    const key =
      this.#byLabels.size < MAX_SERIES
        ? wanted
        : labelText(Object.fromEntries(Object.keys(labels).map((name) => [name, 'other'])))
    const made = this.#byLabels.get(key) ?? this.#make()
    this.#byLabels.set(key, made)
    return made
  }

  entries(): MapIterator<[string, T]> {
    return this.#byLabels.entries()
  }

  clear(): void {
    this.#byLabels.clear()
  }
}

interface Cell {
  value: number
}

/** Only ever grows. The name is given without `_total`. */
export class Counter implements Metric {
  readonly type = 'counter'
  readonly info: MetricInfo
  readonly #series = new Series<Cell>(() => ({ value: 0 }))

  constructor(info: MetricInfo) {
    this.info = info
  }

  add(labels: Labels = {}, by = 1): void {
    this.#series.at(labels).value += by
  }

  value(labels: Labels = {}): number {
    return this.#series.at(labels).value
  }

  *samples(): Generator<Sample> {
    for (const [labels, { value }] of this.#series.entries()) yield { suffix: '_total', labels, value }
  }
}

export class Gauge implements Metric {
  readonly type = 'gauge'
  readonly info: MetricInfo
  readonly #series = new Series<Cell>(() => ({ value: 0 }))
  readonly #read: (() => number) | undefined

  /** With `read`, the value is asked for whenever the metrics are. */
  constructor(info: MetricInfo, read?: () => number) {
    this.info = info
    this.#read = read
  }

  set(value: number, labels: Labels = {}): void {
    this.#series.at(labels).value = value
  }

  /** Forgets all label sets: for gauges that are counted anew. */
  clear(): void {
    this.#series.clear()
  }

  *samples(): Generator<Sample> {
    if (this.#read !== undefined) this.set(this.#read())
    for (const [labels, { value }] of this.#series.entries()) yield { suffix: '', labels, value }
  }
}

interface Distribution {
  readonly counts: number[]
  sum: number
}

export class Histogram implements Metric {
  readonly type = 'histogram'
  readonly info: MetricInfo
  readonly #bounds: readonly number[]
  readonly #series: Series<Distribution>

  /** `bounds`: upper ends of the buckets, rising, without infinity. */
  constructor(info: MetricInfo, bounds: readonly number[]) {
    this.info = info
    this.#bounds = bounds
    this.#series = new Series(() => ({ counts: Array<number>(bounds.length + 1).fill(0), sum: 0 }))
  }

  observe(value: number, labels: Labels = {}): void {
    const series = this.#series.at(labels)
    const found = this.#bounds.findIndex((bound) => value <= bound)
    const at = found < 0 ? this.#bounds.length : found
    series.counts[at] = (series.counts[at] ?? 0) + 1
    series.sum += value
  }

  *samples(): Generator<Sample> {
    for (const [labels, { counts, sum }] of this.#series.entries()) {
      let count = 0
      for (const [i, some] of counts.entries()) {
        count += some
        const le = `le="${this.#bounds[i] ?? '+Inf'}"`
        yield { suffix: '_bucket', labels: labels === '' ? le : `${labels},${le}`, value: count }
      }
      yield { suffix: '_count', labels, value: count }
      yield { suffix: '_sum', labels, value: sum }
    }
  }
}

export class Registry {
  readonly #metrics = new Map<string, Metric>()
  readonly #collectors = new Set<() => void>()

  /** `collect` runs before every print: for gauges that are cheaper to count then. Disposing ends that. */
  onCollect(collect: () => void): Disposable {
    this.#collectors.add(collect)
    return { [Symbol.dispose]: () => void this.#collectors.delete(collect) }
  }

  counter(info: MetricInfo): Counter {
    return this.#add(new Counter(info))
  }

  gauge(info: MetricInfo, read?: () => number): Gauge {
    return this.#add(new Gauge(info, read))
  }

  histogram(info: MetricInfo, bounds: readonly number[]): Histogram {
    return this.#add(new Histogram(info, bounds))
  }

  names(): string[] {
    return [...this.#metrics.values()].map(({ info, type }) => (type === 'counter' ? `${info.name}_total` : info.name))
  }

  /** `openmetrics`: OpenMetrics 1.0; `prometheus`: text format 0.0.4. */
  text(format: 'openmetrics' | 'prometheus'): string {
    for (const collect of this.#collectors) collect()
    const lines: string[] = []
    for (const metric of this.#metrics.values()) {
      const { name, help, unit } = metric.info
      const family = format === 'prometheus' && metric.type === 'counter' ? `${name}_total` : name
      lines.push(`# TYPE ${family} ${metric.type}`)
      if (unit !== undefined && format === 'openmetrics') lines.push(`# UNIT ${family} ${unit}`)
      lines.push(`# HELP ${family} ${escaped(help)}`)
      for (const { suffix, labels, value } of metric.samples())
        lines.push(`${name}${suffix}${labels === '' ? '' : `{${labels}}`} ${value}`)
    }
    if (format === 'openmetrics') lines.push('# EOF')
    return `${lines.join('\n')}\n`
  }

  #add<M extends Metric>(metric: M): M {
    if (this.#metrics.has(metric.info.name)) throw new Error(`metric ${metric.info.name} is registered twice`)
    this.#metrics.set(metric.info.name, metric)
    return metric
  }
}

const labelText = (labels: Labels): string =>
  Object.entries(labels)
    .map(([name, value]) => `${name}="${escaped(value.slice(0, 128))}"`)
    .join(',')

const escaped = (text: string): string => text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')
