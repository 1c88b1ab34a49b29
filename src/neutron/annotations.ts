/** Annotations by which people and Heddle speak about pods and nodes in OpenStack. */

/** On a Pod: an address of the project, `auto`, or `auto:NETWORK` (an external network's id). */
export const FLOATING_IP = 'heddle.io/floating-ip'
/** On a Pod, by the controller: what became of it, as JSON. */
export const FLOATING_IP_STATUS = 'heddle.io/floating-ip-status'
/** On a Node: the address that routes lead to, where its InternalIPs leave it open. */
export const NODE_ADDRESS = 'heddle.io/node-address'
/** On a Node: its pods' networks, instead of its podCIDRs; commas between them. */
export const NODE_POD_CIDRS = 'heddle.io/pod-cidrs'
/** The condition of Nodes whose pods lack routes. */
export const ROUTES_CONDITION = 'NeutronRoutesMissing'
