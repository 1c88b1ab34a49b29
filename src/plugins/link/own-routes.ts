/** Routes of one interface of a pod, for plugins that put them somewhere else. */

import type { Route, SeenRoute } from '#netlink/route-codec.ts'

/** Those that lead over the interface; of one that leads over several, IPv6's way to join routes to one destination, this interface's parts. */
export const routesBy = (routes: readonly SeenRoute[], index: number): readonly SeenRoute[] =>
  routes.flatMap((route) => partsBy(route, index))

function partsBy(route: SeenRoute, index: number): readonly SeenRoute[] {
  if (route.nexthops === undefined) return route.oif === index ? [route] : []
  const { nexthops, ...whole } = route
  return nexthops
    .filter(({ oif }) => oif === index)
    .map(({ gateway, onlink }) => ({
      ...whole,
      oif: index,
      ...(gateway === undefined ? {} : { gateway }),
      ...(onlink === true ? { onlink } : {}),
    }))
}

/** In the order in which they can be put: a gateway can be used only where there is a way to it. */
export const directFirst = (routes: readonly Route[]): readonly Route[] => [
  ...routes.filter(({ gateway }) => gateway === undefined),
  ...routes.filter(({ gateway }) => gateway !== undefined),
]
