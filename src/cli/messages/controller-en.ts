/** What `heddle controller` says. */
export const controllerEn = {
  'controller.summary': 'what runs once per cluster on OpenStack: routes, leftovers, floating IPs',
  'controller.description':
    'Runs in the foreground. Of several controllers one leads, by a Lease, and does the work: keeps the routes of a Neutron router (--router), removes what dead nodes left in the cloud (--cluster-name), leads floating IPs to pods (--floating-ips). Every option is also read from the environment, as HEDDLE_ and its name in capitals.',
  'controller.namespace': 'namespace of the Lease and of the record (default: that of the pod, kube-system)',
  'controller.leaseName': 'name of both (default: heddle-controller)',
  'controller.leaseDuration': 'seconds after which another takes over from a leader that is silent (default: 15)',
  'controller.cloudsFile': 'clouds.yaml (default: as the openstack command finds it)',
  'controller.cloud': 'cloud in clouds.yaml (default: OS_CLOUD)',
  'controller.clusterName':
    'name by which this cluster marks what it makes in the cloud; without one, nothing is ever removed',
  'controller.routeStrategy': 'none, per-pod or per-node (default: none, which takes our routes off the router)',
  'controller.router': 'id of the router whose extra routes are kept',
  'controller.podCidr': 'networks of pods, with commas between them: no route outside is touched',
  'controller.nodeCidr': 'networks of nodes: which of several InternalIPs routes lead to',
  'controller.maxRoutes': 'routes that a router may have, where Neutron does not tell (default: 30)',
  'controller.routeReserve': 'routes that are left free for others (default: 2)',
  'controller.aggregate': 'merge routes when there are too many: none, exact or cover (default: exact)',
  'controller.resyncInterval': 'seconds between two looks at the whole router and all floating IPs (default: 60)',
  'controller.gcInterval': 'seconds between two looks for leftovers of dead nodes (default: 300; 0: never)',
  'controller.gcLimit': 'leftovers that one look removes (default: 20)',
  'controller.gcDryRun': 'find and tell leftovers, remove none',
  'controller.floatingIps': 'lead floating IPs to pods with the annotation heddle.io/floating-ip',
  'controller.floatingNetwork': 'id of the external network that "auto" takes floating IPs from',
} as const
