/** A reporter for `node --test`: says nothing while every test runs, and fails the run where one was skipped. */
export default async function* noSkips(events) {
  const skipped = []
  for await (const { type, data } of events) {
    const isTest = type === 'test:pass' || type === 'test:fail'
    if (isTest && data.skip !== undefined && data.skip !== false) skipped.push(`${data.name}: ${data.skip}`)
  }
  if (skipped.length === 0) return
  process.exitCode = 1
  yield `\ntest:vm: ${skipped.length} skipped, and nothing may be skipped in the virtual machine:\n`
  for (const line of skipped) yield `  ${line}\n`
}
