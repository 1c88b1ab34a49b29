/**
 * The house, from the ground up: a folder of src may import from its own floor and from those below, never from above.
 * Folders of one floor must not import each other both ways.
 */
export const floors = [
  ['ip', 'sys', 'codec'],
  ['netlink'],
  ['nft', 'iptables'],
  ['state'],
  ['cni', 'openstack'],
  ['ipam', 'plugins'],
  ['kube', 'etcd', 'cloud', 'vici'],
  ['flannel', 'calico', 'neutron'],
  ['policy', 'services'],
  ['agent', 'controller'],
  ['lab', 'walk', 'doctor'],
  ['api'],
  ['cli'],
]

/** @returns {number | undefined} counted from the ground */
export function floorOf(folder) {
  const index = floors.findIndex((floor) => floor.includes(folder))
  return index < 0 ? undefined : index
}
