/**
 * What each purpose needs from Debian. A requirement is met when its files are there, whoever put them there;
 * the package is only asked for when they are not.
 *
 * `essential: false` means that without it some tests or benchmarks skip themselves and say why.
 *
 * `disturbs: true` means that it starts a service of its own, or pushes out what a machine may have instead (Docker's containerd): it is installed in
 * CI only, and elsewhere named.
 *
 * @typedef {{ package: string, commands?: readonly string[], files?: readonly string[], essential: boolean, disturbs?: boolean, why: string }} Requirement
 */

/** @type {readonly Requirement[]} */
const native = [
  { package: 'gcc', commands: ['gcc'], essential: true, why: 'compiles the addon and the shim' },
  { package: 'libc6-dev', files: ['/usr/include/stdio.h'], essential: true, why: 'C headers' },
  { package: 'musl-tools', commands: ['musl-gcc'], essential: false, why: 'makes the shim 18 kB instead of 700' },
]

/** @type {readonly Requirement[]} */
const network = [
  { package: 'nftables', commands: ['nft'], essential: true, why: 'loads nftables rules' },
  { package: 'iproute2', commands: ['ip', 'bridge', 'tc'], essential: true, why: 'shows what the kernel holds' },
  { package: 'iputils-ping', commands: ['ping'], essential: true, why: 'sends the packets of the checks' },
]

/** @type {readonly Requirement[]} */
const measured = [
  {
    package: 'containernetworking-plugins',
    files: ['/usr/lib/cni/bridge', '/usr/lib/cni/portmap'],
    essential: false,
    why: 'the reference plugins that Heddle is compared with',
  },
  { package: 'iptables', commands: ['iptables', 'ip6tables'], essential: false, why: "the reference plugins' rules" },
  { package: 'iperf3', commands: ['iperf3'], essential: false, why: 'measures throughput' },
]

/** @type {readonly Requirement[]} */
const tested = [
  { package: 'kubernetes-client', commands: ['kubectl'], essential: false, why: 'kubectl against the lab' },
  {
    package: 'containerd',
    commands: ['containerd', 'ctr'],
    essential: false,
    disturbs: true,
    why: 'a container runtime with our plugins',
  },
  {
    package: 'runc',
    commands: ['runc'],
    essential: false,
    disturbs: true,
    why: 'starts the containers of both runtimes',
  },
  {
    package: 'podman',
    commands: ['podman', 'conmon'],
    essential: false,
    disturbs: true,
    why: 'another container runtime',
  },
  {
    package: 'etcd-server',
    commands: ['etcd'],
    essential: false,
    disturbs: true,
    why: 'a datastore of leases that is killed, paused, compacted and put back',
  },
  {
    package: 'etcd-client',
    commands: ['etcdctl'],
    essential: false,
    why: "writes there what flannel's nodes and operators write",
  },
  { package: 'wireguard-tools', commands: ['wg'], essential: false, why: 'shows what WireGuard devices hold' },
  { package: 'ethtool', commands: ['ethtool'], essential: false, why: 'shows the features of devices' },
  { package: 'procps', commands: ['ps', 'sysctl'], essential: false, why: 'looks at processes and sysctls' },
  { package: 'dnsmasq-base', commands: ['dnsmasq'], essential: false, why: 'a DHCP server to ask, of both families' },
  { package: 'isc-dhcp-server', commands: ['dhcpd'], essential: false, why: 'a DHCP server with leases of seconds' },
  {
    package: 'firewalld',
    commands: ['firewalld', 'firewall-cmd'],
    essential: false,
    disturbs: true,
    why: 'the plugin firewall against a real one, in a namespace and on a message bus of its own',
  },
  {
    package: 'neutron-server',
    files: ['/usr/bin/neutron-server'],
    essential: false,
    disturbs: true,
    why: 'a real Neutron for the suite that holds the fake one',
  },
  {
    package: 'keystone',
    files: ['/usr/bin/keystone-manage'],
    essential: false,
    disturbs: true,
    why: 'its Keystone',
  },
  {
    package: 'uwsgi-plugin-python3',
    files: ['/usr/bin/uwsgi'],
    essential: false,
    disturbs: true,
    why: 'serves that Keystone',
  },
  {
    package: 'strongswan-charon',
    files: ['/usr/lib/ipsec/charon'],
    essential: false,
    disturbs: true,
    why: 'keys and tunnels of the ipsec backend',
  },
  {
    package: 'strongswan-swanctl',
    files: ['/usr/lib/ipsec/plugins/libstrongswan-vici.so'],
    essential: false,
    disturbs: true,
    why: 'the socket by which charon is told of peers',
  },
  { package: 'dbus-daemon', commands: ['dbus-daemon'], essential: false, why: 'that message bus' },
]

/**
 * For the kernel that tests run under in a virtual machine; it is fetched by tools/vm/kernel.mjs, not installed.
 *
 * @type {readonly Requirement[]}
 */
const virtual = [
  { package: 'qemu-system-x86', commands: ['qemu-system-x86_64'], essential: true, why: 'is the machine' },
  { package: 'busybox-static', commands: ['busybox'], essential: true, why: 'starts it' },
  { package: 'kmod', commands: ['depmod', 'modprobe'], essential: true, why: "loads the kernel's modules" },
]

/** @type {Readonly<Record<string, readonly Requirement[]>>} */
export const requirements = {
  check: [],
  build: native,
  start: [...native, ...network],
  bench: [...native, ...network, ...measured],
  test: [...native, ...network, ...measured, ...tested],
  vm: [...native, ...network, ...measured, ...tested, ...virtual],
}
