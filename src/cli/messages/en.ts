import { installEn } from './install-en.ts'
import { labEn } from './lab-en.ts'
import { nodeChecksEn } from './node-checks-en.ts'
import { controllerEn } from './controller-en.ts'
import { leaksEn } from './leaks-en.ts'
import { migrateEn } from './migrate-en.ts'

/**
 * What the command says, by key. `{name}` stands for a value. Every key here is in every other catalogue, with the same
 * placeholders: the type asks for the keys, a test for the placeholders.
 */
export const en = {
  ...labEn,
  ...nodeChecksEn,
  ...controllerEn,
  ...leaksEn,
  ...installEn,
  ...migrateEn,
  'heddle.summary': 'A Kubernetes pod network: its plugins, its node agent, and a lab that builds one on this machine',
  'heddle.lang': 'language of messages: en or zh (default: from LC_ALL, LC_MESSAGES, LANG)',
  'heddle.version': 'print the version',
  'heddle.help': 'print this help',
  'help.usage': 'Usage:',
  'help.options': 'Options:',
  'help.arguments': 'Arguments:',
  'help.commands': 'Commands:',
  'lab.summary': 'a cluster network in network namespaces on this machine: up, status, check, exec, down',
  'cni.summary': 'install the plugins; run a network configuration by hand: add, del, check, status, gc, version',
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
  'dhcp.summary': 'the DHCP daemon alone, for the plugin dhcp without an agent',
  'dhcp.description':
    'Keeps the leases of pods whose addresses come from a DHCP server. The agent does the same by itself.',
  'dhcp.daemon': 'answers the plugin dhcp on a unix socket and renews leases, in the foreground until SIGTERM',
  'dhcp.flags':
    '-socketpath FILE (/run/cni/dhcp.sock), -hostprefix DIRECTORY, -pidfile FILE, -broadcast, -resendmax TIME (62s), -resendtimeout TIME (208s), -timeout TIME (accepted, without effect)',
  'neutron.summary': 'the daemon of the plugin neutron-ipam alone, for nodes without an agent',
  'neutron.description':
    'Pods that have their addresses from OpenStack Neutron. The agent does the same with --neutron-config.',
  'neutron.ipamd': 'keeps a pool of addresses and answers the plugin on a unix socket, in the foreground until SIGTERM',
  'neutron.config': 'the configuration of the network (CNI list) whose ipam is neutron-ipam, or that object alone',
  'neutron.badLevel': '--log-level is "{level}"',
  'agent.summary': 'the node agent: programs this node and answers CNI calls',
  'agent.description':
    'Runs in the foreground until SIGTERM; the data path stays when it ends. Without --cni-only it is the node agent of a cluster, in the way of flannel: it watches Nodes, programs this one, and publishes it. Every option with a value is also read from the environment as HEDDLE_….',
  'agent.nodeName': 'name of this Node in Kubernetes (default: NODE_NAME)',
  'agent.kubeconfig': 'kubeconfig (default: KUBECONFIG, the service account of the pod, ~/.kube/config)',
  'agent.kubeApiUrl': 'URL of the API server, instead of the one in the kubeconfig',
  'agent.netConfigPath':
    'network configuration (default: /etc/kube-flannel/net-conf.json, else the ConfigMap of flannel)',
  'agent.netConfigMap': 'ConfigMap with the key net-conf.json',
  'agent.etcdEndpoints': 'keep leases in etcd instead of Kubernetes: its URLs, with commas between them',
  'agent.etcdPrefix': 'where the network lies in etcd (default: /coreos.com/network)',
  'agent.etcdCafile': 'certificate authorities for https endpoints (default: those of the machine)',
  'agent.etcdCertfile': 'client certificate for etcd, with --etcd-keyfile',
  'agent.etcdKeyfile': 'key of the client certificate',
  'agent.etcdUsername': 'user of etcd',
  'agent.etcdPassword':
    'password of that user; better in HEDDLE_ETCD_PASSWORD, which other users of the machine cannot see',
  'agent.renewMargin': 'minutes that the lease has left when it is renewed (default: 60)',
  'agent.leaseTtl': 'seconds that a lease holds without a renewal (default: 86400)',
  'agent.iface':
    'interface for traffic between nodes, by name or address; may be repeated, the first that exists is taken',
  'agent.ifaceRegex':
    'interface by a regular expression, tried against addresses, then names; may be repeated; after --iface',
  'agent.blackhole': 'end packets to pods that are not there at a route of their own, on nodes without a bridge',
  'agent.ifaceCanReach': 'choose the interface of the route to this address',
  'agent.publicIp': 'IPv4 address that peers send to (default: that of the interface)',
  'agent.publicIpv6': 'IPv6 address that peers send to',
  'agent.noIpMasq': 'do not masquerade traffic that leaves the pod network',
  'agent.noFullyRandom': 'masquerade without choosing ports at random',
  'agent.noForwardRules': "write no rules that let the pods' packets be forwarded",
  'agent.iptablesResync': 'seconds between two looks at the rules in iptables (default: 5; 0: on events only)',
  'agent.noNetworkUnavailable': 'leave the condition NetworkUnavailable of the Node alone',
  'agent.annotationPrefix': 'prefix of the annotations (default: flannel.alpha.coreos.com)',
  'agent.subnetFile': 'file that tells the flannel plugin the subnet (default: /run/flannel/subnet.env)',
  'agent.root': 'directory under which all paths lie, so that several agents share a machine',
  'agent.socket': 'unix socket for CNI calls (default: /run/heddle/cni.sock)',
  'agent.dhcpSocket': 'socket for the plugin dhcp (default: /run/cni/dhcp.sock)',
  'agent.noDhcp': 'keep no DHCP leases: another daemon does',
  'agent.neutronConfig':
    'keep a pool of addresses of OpenStack Neutron for the plugin neutron-ipam: a file with its configuration',
  'agent.allowExtension': 'run the commands that the extension backend names in the network configuration',
  'agent.cniOnly': 'answer CNI calls without any cluster',
  'agent.healthListen': 'serve /healthz, /readyz and /metrics on a path (unix socket) or HOST:PORT',
  'agent.untilStdinCloses': 'end when standard input closes, so as not to outlive the program that started it',
  'agent.leakInterval': 'look for what attachments left behind so often, 0 for never (default: 60)',
  'agent.logLevel': 'debug, info, warn or error (default: info)',
  'flanneld.summary': "the node agent with flanneld's flags and environment",
  'flanneld.description':
    'Runs the node agent in the place of flanneld: the same flags (one dash or two, -flag=value or -flag value), the same environment (FLANNELD_…, NODE_NAME, POD_NAME and POD_NAMESPACE), the same defaults.',
  'flanneld.flags': 'flags of flanneld; -help lists them',
  'flanneld.noNode': 'the pod {pod} does not run on a node yet',
  'fail.remedy': 'To do: {remedy}',
  'fail.why': 'Why: {why}',
  'fail.unexpected': 'this is a mistake in Heddle itself; please report it with the lines below',
} as const

export type MessageKey = keyof typeof en
export type Catalogue = Readonly<Record<MessageKey, string>>

type PlaceholdersOf<T extends string> = T extends `${string}{${infer Name}}${infer Rest}`
  ? Name | PlaceholdersOf<Rest>
  : never

/** The names of the values that a message needs. */
export type Placeholder<K extends MessageKey> = PlaceholdersOf<(typeof en)[K]>
