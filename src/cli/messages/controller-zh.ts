import type { controllerEn } from './controller-en.ts'

export const controllerZh: Readonly<Record<keyof typeof controllerEn, string>> = {
  'controller.summary': '每个集群在 OpenStack 上只运行一份的工作：路由、残余清理、浮动 IP',
  'controller.description':
    '在前台运行。多个控制器通过 Lease 选出一个来工作：维护 Neutron 路由器的路由（--router），清除失效节点在云中留下的残余（--cluster-name），把浮动 IP 绑定到 Pod（--floating-ips）。每个选项也可用环境变量给出，名字是 HEDDLE_ 加上选项名的大写。',
  'controller.namespace': 'Lease 与记录所在的命名空间（默认取本 Pod 的命名空间，否则为 kube-system）',
  'controller.leaseName': '两者的名字（默认 heddle-controller）',
  'controller.leaseDuration': '领导者失联多少秒后由他人接替（默认 15）',
  'controller.cloudsFile': 'clouds.yaml 文件（默认与 openstack 命令的查找方式相同）',
  'controller.cloud': 'clouds.yaml 中的云名（默认取 OS_CLOUD）',
  'controller.clusterName': '本集群在云中所建对象的标记名；不给出则从不清除任何东西',
  'controller.routeStrategy': 'none、per-pod 或 per-node（默认 none，即从路由器撤下我们的路由）',
  'controller.router': '要维护其静态路由的路由器 id',
  'controller.podCidr': 'Pod 的网段，用逗号分隔：网段以外的路由一律不动',
  'controller.nodeCidr': '节点的网段：节点有多个 InternalIP 时以此选出下一跳',
  'controller.maxRoutes': '路由器允许的路由条数，用于 Neutron 不告知时（默认 30）',
  'controller.routeReserve': '为他人留出的路由条数（默认 2）',
  'controller.aggregate': '路由过多时的合并方式：none、exact 或 cover（默认 exact）',
  'controller.resyncInterval': '两次全面检查路由器和浮动 IP 之间的秒数（默认 60）',
  'controller.gcInterval': '两次查找失效节点残余之间的秒数（默认 300；0 表示从不）',
  'controller.gcLimit': '每次最多清除的残余个数（默认 20）',
  'controller.gcDryRun': '只查找并报告残余，不清除',
  'controller.floatingIps': '把浮动 IP 绑定到带注解 heddle.io/floating-ip 的 Pod',
  'controller.floatingNetwork': '"auto" 取用浮动 IP 的外部网络 id',
}
