import { Command } from 'commander'

import { leaksCommand } from './doctor-leaks.ts'
import { say } from './language.ts'

/** `heddle doctor`: what is wrong with this node. */
export function doctorCommand(): Command {
  return new Command('doctor').description(say('doctor.description')).addCommand(leaksCommand())
}
