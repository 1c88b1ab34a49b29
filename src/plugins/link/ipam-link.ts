/**
 * Whether an IPAM plugin speaks over the pod's own link. Such a link is up before IPAM's ADD, and goes only after IPAM's DEL, because the server hears of a
 * release over it. The others get their DEL last: an address may go to another pod only when this one cannot send from it any more (dhcp takes the address
 * off the link itself before it releases).
 */
export const asksOverLink = (ipamType: string): boolean => ipamType === 'dhcp'
