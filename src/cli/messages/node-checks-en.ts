/** What `heddle doctor` says of this node: its options, its checks, and a sentence for each cause. */
export const nodeChecksEn = {
  'doctor.summary': 'look for what usually keeps a pod network from working on this node, and for leftovers',
  'doctor.description':
    'Reads this node (its kernel, its firewall, its files) and, where one can be reached, the API server; changes nothing. Tells each trouble with the evidence, its cause, and the commands that mend it. Exit code 1 when there is a problem.',
  'doctor.json': 'print one JSON document',
  'doctor.all': 'tell also what is fine',
  'doctor.only': 'only these checks, separated by commas',
  'doctor.root': 'directory under which the files of this node lie',
  'doctor.bin': 'directories of CNI plugins, separated by colons (default: /opt/cni/bin:/usr/lib/cni)',
  'doctor.conf': 'directory of CNI configurations (default: /etc/cni/net.d)',
  'doctor.kubeconfig': 'kubeconfig (default: KUBECONFIG, the service account of the pod, ~/.kube/config)',
  'doctor.kubeApiUrl': 'URL of the API server, instead of the one in the kubeconfig',
  'doctor.node': 'name of this Node in Kubernetes (default: NODE_NAME, else the name of the host)',
  'doctor.column.check': 'CHECK',
  'doctor.column.state': 'STATE',
  'doctor.column.evidence': 'SEEN',
  'doctor.state.ok': 'ok',
  'doctor.state.warning': 'warning',
  'doctor.state.problem': 'problem',
  'doctor.state.unknown': 'unknown',
  'doctor.seen': 'seen',
  'doctor.sum': '{problems} problems, {warnings} warnings; {fine} fine, {unknown} could not be looked at.',
  'doctor.healthy': 'Nothing is wrong: {fine} checks are fine, {unknown} could not be looked at.',
  'doctor.cause.forwarding-off':
    'This node does not forward {family} packets, so no pod can reach anything outside its node.',
  'doctor.cause.bridge-filter-missing':
    'Packets between pods of one bridge pass by the rules of services: a pod that calls a service and reaches a pod of its own node gets answers from a stranger.',
  'doctor.cause.bridge-filter-off': '{key} is off: packets between pods of one bridge pass by the rules of services.',
  'doctor.cause.reverse-path-strict':
    'The kernel drops packets from {dev} whose answers would leave elsewhere (strict reverse path filter).',
  'doctor.cause.forward-drop':
    'What no rule accepts is dropped by {chain}, and none accepts {network}: packets from and to pods end there (Docker and ufw set this policy).',
  'doctor.cause.checksum-offload-broken':
    'Kernel {release} may compute wrong checksums for packets through {dev} that are masqueraded at random: connections to services take 63 s or never come.',
  'doctor.cause.mac-differs':
    '{dev} has the MAC {kernel}, and the other nodes send to {published}: somebody (often udev) changed it.',
  'doctor.cause.mac-policy-persistent':
    '{file} makes udev rewrite the MACs of new devices; flanneld then publishes one that its device does not have.',
  'doctor.cause.managed-by-network-manager':
    'NetworkManager manages the interfaces of pods too, and removes addresses and routes that it did not make.',
  'doctor.cause.networkd-removes-routes':
    'systemd-networkd removes routes that it did not make when it restarts: other nodes cannot be reached until they are put back.',
  'doctor.cause.firewalld-without-pods': 'firewalld runs and does not know {network}: it rejects packets of pods.',
  'doctor.cause.no-default-route':
    'There is no default route, and nobody said which interface leads to the other nodes (--iface).',
  'doctor.cause.interface-behind-nat':
    '{address} is the address that VirtualBox gives every machine behind its NAT: the other nodes cannot reach it. Choose the interface with --iface or --iface-can-reach.',
  'doctor.cause.published-address-missing': 'The other nodes send to {address}, which no interface of this node has.',
  'doctor.cause.address-shared':
    'The nodes {nodes} have one address, {address}: each takes packets of the others. Choose the interface with --iface on each.',
  'doctor.cause.subnet-shared': 'The nodes {nodes} have one pod subnet, {subnet}: pods of theirs share addresses.',
  'doctor.cause.peer-without-route':
    'There is no route to the pods of node {node} ({subnet}): the agent does not believe that node, or does not run here.',
  'doctor.cause.tunnel-mtu-too-large':
    '{dev} takes packets of {mtu} bytes, and only {most} fit through: large packets vanish while small ones pass.',
  'doctor.cause.link-mtu-differs': '{dev} takes packets of {mtu} bytes, and only {wanted} fit through the tunnel.',
  'doctor.cause.bridge-address-stale':
    '{dev} keeps the address {address} of a former network; this node now has {wanted}, and no pod can be made.',
  'doctor.cause.no-conflist':
    'There is no CNI configuration in {directory}: the runtime makes no pod, and the Node stays NotReady.',
  'doctor.cause.conflist-unreadable': 'The runtime takes {file}, which is no CNI configuration: {why}',
  'doctor.cause.conflist-shadowed': 'The runtime takes {file} and not {other}: the first by name counts.',
  'doctor.cause.plugin-missing': '{file} needs {type}, which is not in {directory}: no pod can be made.',
  'doctor.cause.subnet-file-missing':
    'The agent has not written {path}: it does not run, or this Node has no podCIDR. No pod can be made.',
  'doctor.cause.subnet-file-broken': '{path} cannot be used: {why}',
  'doctor.cause.subnet-file-stale':
    '{path} names {has}, and the Node has {wanted}: the agent is behind, or a former cluster left the file.',
  'doctor.cause.agent-absent':
    'No agent listens on {socket}: nobody follows the cluster, and every plugin starts by itself.',
  'doctor.cause.agent-silent': 'The socket {socket} is there and nobody answers: the agent was killed, or hangs.',
  'doctor.cause.clock-differs': 'This clock is {seconds} s ahead of the API server: certificates and leases fail.',
  'doctor.cause.conntrack-full':
    'Connection tracking holds {used} of {most} connections: new ones are dropped when it is full.',
  'doctor.cause.neighbours-full':
    'There are {used} neighbours and {key} allows {most}: packets are dropped when it is full.',
  'doctor.cause.port-taken-by-vmware':
    'On VMware, NSX takes UDP port 8472 for itself: packets through {dev} vanish between hosts. Set another "Port" in the network configuration on all nodes.',
} as const
