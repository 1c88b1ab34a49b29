/** What a document promises in commands and in structure; prose may differ between languages, these may not. */
export function outlineOf(markdown) {
  const headings = []
  const commands = []
  let fence
  for (const line of markdown.split('\n')) {
    const mark = /^\s*(```+|~~~+)(\w*)/.exec(line)
    if (mark !== null) {
      fence = fence === undefined ? mark[2] || 'text' : undefined
      continue
    }
    if (fence === undefined) {
      const heading = /^(#+)\s/.exec(line)?.[1]
      if (heading !== undefined) headings.push(heading.length)
    } else if (fence === 'sh') {
      const command = line.replace(/\s+#.*$/, '').trim()
      if (command !== '' && !command.startsWith('#')) commands.push(command)
    }
  }
  return { headings, commands }
}

/** @returns {string[]} how a translation differs from its original in headings and commands */
export function differences(original, translation, names) {
  const a = outlineOf(original)
  const b = outlineOf(translation)
  const problems = []
  if (a.headings.join() !== b.headings.join()) {
    problems.push(`${names[1]} has headings of levels ${b.headings.join(' ')}, ${names[0]} has ${a.headings.join(' ')}`)
  }
  const lacks = (from, to, file) =>
    from.filter((command) => !to.includes(command)).map((command) => `${file} lacks the command: ${command}`)
  return [...problems, ...lacks(a.commands, b.commands, names[1]), ...lacks(b.commands, a.commands, names[0])]
}

/** @returns {string[]} relative links of a document that lead to nothing */
export function brokenLinks(file, markdown, exists) {
  const folder = file.includes('/') ? file.slice(0, file.lastIndexOf('/') + 1) : ''
  return [...markdown.matchAll(/\]\(([^)\s#]+)(?:#[^)]*)?\)/g)]
    .map((match) => match[1])
    .filter((link) => !/^[a-z]+:/.test(link) && !exists(folder + link))
    .map((link) => `${file}: ${link} does not exist`)
}
