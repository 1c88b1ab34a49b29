/**
 * What the command says, by key. `{name}` stands for a value. Every key here is in every other catalogue, with the same
 * placeholders: the type asks for the keys, a test for the placeholders.
 */
export const en = {
  'heddle.summary': 'A Kubernetes pod network: its plugins, its node agent, and a lab that builds one on this machine',
  'heddle.lang': 'language of messages: en or zh (default: from LC_ALL, LC_MESSAGES, LANG)',
  'heddle.version': 'print the version',
  'heddle.help': 'print this help',
  'help.usage': 'Usage:',
  'help.options': 'Options:',
  'help.arguments': 'Arguments:',
  'help.commands': 'Commands:',
  'lab.summary': 'a cluster network in network namespaces on this machine: up, status, check, exec, down',
  'cni.summary': 'run a CNI network configuration by hand: add, del, check, status, gc, version',
  'cni.description':
    'Runs a network configuration list as a container runtime does, like cnitool. Environment: CNI_PATH (directories of plugins, /opt/cni/bin), NETCONFPATH (/etc/cni/net.d), CAP_ARGS (JSON), CNI_ARGS (K=V;K=V), CNI_IFNAME (eth0).',
  'cni.add': 'attach a network namespace to the network; prints the result',
  'cni.del': 'detach it again',
  'cni.check': 'check that the attachment is as ADD made it',
  'cni.status': 'ask whether the plugins can serve an ADD',
  'cni.gc': 'remove every attachment of the network',
  'cni.version': 'print the versions that the plugins of the network speak',
  'cni.network': 'name of the network in its configuration',
  'cni.netns': 'path of the network namespace, such as /var/run/netns/x',
  'cni.ifname': 'name of the interface in the namespace',
  'cni.exec': "execute Heddle's own plugins too instead of running them in this process",
  'cni.cacheDir': 'where results are kept (default: /var/lib/cni)',
  'agent.summary': 'the node agent: programs this node and answers CNI calls',
  'fail.remedy': 'To do: {remedy}',
  'fail.why': 'Why: {why}',
  'fail.unexpected': 'this is a mistake in Heddle itself; please report it with the lines below',
  'fail.missingCommand': 'the command "{command}" is not part of this build',
  'fail.missingCommandRemedy': 'update the checkout, then run npm start',
} as const

export type MessageKey = keyof typeof en
export type Catalogue = Readonly<Record<MessageKey, string>>

type PlaceholdersOf<T extends string> = T extends `${string}{${infer Name}}${infer Rest}`
  ? Name | PlaceholdersOf<Rest>
  : never

/** The names of the values that a message needs. */
export type Placeholder<K extends MessageKey> = PlaceholdersOf<(typeof en)[K]>
