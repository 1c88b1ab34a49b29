/** A span as `kubectl get` prints ages: `45s`, `5m10s`, `3h`, `2d5h`, `1y30d` (apimachinery `duration.HumanDuration`). */
export function humanDuration(ms: number): string {
  const seconds = Math.trunc(ms / 1000)
  if (seconds < -1) return '<invalid>'
  if (seconds < 0) return '0s'
  const both = (big: number, unit: string, small: number, part: string): string =>
    small === 0 ? `${big}${unit}` : `${big}${unit}${small}${part}`
  if (seconds < 120) return `${seconds}s`
  const minutes = Math.trunc(seconds / 60)
  if (minutes < 10) return both(minutes, 'm', seconds % 60, 's')
  if (minutes < 180) return `${minutes}m`
  const hours = Math.trunc(minutes / 60)
  if (hours < 8) return both(hours, 'h', minutes % 60, 'm')
  if (hours < 48) return `${hours}h`
  const days = Math.trunc(hours / 24)
  if (hours < 192) return both(days, 'd', hours % 24, 'h')
  if (days < 730) return `${days}d`
  const years = Math.trunc(days / 365)
  return days < 2920 ? both(years, 'y', days % 365, 'd') : `${years}y`
}

/** The age of an RFC 3339 time; `<unknown>` where there is none. */
export function ageOf(time: string | undefined, now: number): string {
  const at = time === undefined ? Number.NaN : Date.parse(time)
  return Number.isNaN(at) ? '<unknown>' : humanDuration(now - at)
}
