/**
 * The flags of `heddle dhcp daemon` are the reference's: one dash and many letters, which commander would take for many flags of one letter. So everything
 * behind the command becomes an argument, except a wish for help.
 */
export function separateGoFlags(args: readonly string[]): readonly string[] {
  const [first, second, third] = args
  if (first !== 'dhcp' || second !== 'daemon' || third === '-h' || third === '--help' || third === '--') return args
  return [first, second, '--', ...args.slice(2)]
}
