import type { Command } from 'commander'

import type { MessageKey } from './messages/en.ts'

/** The key of a command's line in the help. */
export type SummaryKey = Extract<MessageKey, `${string}.summary`>

/** A command of `heddle`, loaded only when it is the one that was asked for: `heddle --help` stays quick. */
export interface LazyCommand {
  readonly summary: SummaryKey
  readonly load: () => Promise<Command>
}

export const commands: Readonly<Record<string, LazyCommand>> = {
  lab: { summary: 'lab.summary', load: async () => (await import('./lab.ts')).labCommand() },
  cni: { summary: 'cni.summary', load: async () => (await import('./cni.ts')).cniCommand() },
  dhcp: { summary: 'dhcp.summary', load: async () => (await import('./dhcp.ts')).dhcpCommand() },
  neutron: { summary: 'neutron.summary', load: async () => (await import('./neutron.ts')).neutronCommand() },
  doctor: { summary: 'doctor.summary', load: async () => (await import('./doctor.ts')).doctorCommand() },
  migrate: { summary: 'migrate.summary', load: async () => (await import('./migrate/command.ts')).migrateCommand() },
  flanneld: { summary: 'flanneld.summary', load: async () => (await import('./flanneld.ts')).flanneldCommand() },
  controller: {
    summary: 'controller.summary',
    load: async () => (await import('./controller.ts')).controllerCommand(),
  },
  agent: { summary: 'agent.summary', load: async () => (await import('./agent.ts')).agentCommand() },
}
