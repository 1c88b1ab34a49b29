/**
 * Commands whose flags are those of a Go program: one dash and many letters, which commander would take for many flags of one letter. So everything
 * behind the command becomes an argument.
 */
const COMMANDS = [['dhcp', 'daemon'], ['flanneld']] as const

/** `heddle dhcp daemon -h` still asks commander for help; flanneld has a help of its own. */
export function separateGoFlags(args: readonly string[]): readonly string[] {
  const command = COMMANDS.find((words) => words.every((word, i) => args[i] === word))
  if (command === undefined) return args
  const next = args[command.length]
  const asksForHelp = command.length > 1 && (next === '-h' || next === '--help')
  if (asksForHelp || next === '--') return args
  return [...command, '--', ...args.slice(command.length)]
}
