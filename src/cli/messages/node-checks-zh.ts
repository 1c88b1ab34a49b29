import type { nodeChecksEn } from './node-checks-en.ts'

export const nodeChecksZh: Readonly<Record<keyof typeof nodeChecksEn, string>> = {
  'doctor.summary': '检查本节点上常见的 Pod 网络故障，以及遗留的残余',
  'doctor.description':
    '读取本节点（内核、防火墙、文件）以及可以访问到的 API 服务器，不做任何改动。每个问题都给出证据、原因和修复命令。存在问题时退出码为 1。',
  'doctor.json': '输出一个 JSON 文档',
  'doctor.all': '也列出正常的项目',
  'doctor.only': '只做这些检查，以逗号分隔',
  'doctor.root': '本节点文件所在的根目录',
  'doctor.bin': 'CNI 插件目录，以冒号分隔（默认 /opt/cni/bin:/usr/lib/cni）',
  'doctor.conf': 'CNI 配置目录（默认 /etc/cni/net.d）',
  'doctor.kubeconfig': 'kubeconfig（默认：KUBECONFIG、Pod 的服务账号、~/.kube/config）',
  'doctor.kubeApiUrl': 'API 服务器的 URL，代替 kubeconfig 中的地址',
  'doctor.node': '本节点在 Kubernetes 中的名字（默认：NODE_NAME，否则为主机名）',
  'doctor.column.check': '检查项',
  'doctor.column.state': '状态',
  'doctor.column.evidence': '所见',
  'doctor.state.ok': '正常',
  'doctor.state.warning': '警告',
  'doctor.state.problem': '问题',
  'doctor.state.unknown': '未知',
  'doctor.seen': '所见',
  'doctor.sum': '{problems} 个问题，{warnings} 个警告；{fine} 项正常，{unknown} 项无法检查。',
  'doctor.healthy': '一切正常：{fine} 项检查通过，{unknown} 项无法检查。',
  'doctor.cause.forwarding-off': '本节点不转发 {family} 报文，Pod 无法访问节点之外的任何地址。',
  'doctor.cause.bridge-filter-missing':
    '同一网桥上 Pod 之间的报文不经过服务规则：Pod 访问服务而后端恰在同一节点时，应答会来自陌生地址。',
  'doctor.cause.bridge-filter-off': '{key} 已关闭：同一网桥上 Pod 之间的报文不经过服务规则。',
  'doctor.cause.reverse-path-strict': '内核会丢弃来自 {dev}、但应答将从别处发出的报文（严格反向路径过滤）。',
  'doctor.cause.forward-drop':
    '没有规则接受的报文会被 {chain} 丢弃，而没有规则接受 {network}：Pod 的进出报文到此为止（Docker 和 ufw 会设置这个策略）。',
  'doctor.cause.checksum-offload-broken':
    '内核 {release} 对经过 {dev}、随机端口伪装的报文可能计算出错误的校验和：访问服务要等 63 秒，甚至永远不通。',
  'doctor.cause.mac-differs': '{dev} 的 MAC 是 {kernel}，而其他节点发往 {published}：有程序（多半是 udev）改动了它。',
  'doctor.cause.mac-policy-persistent': '{file} 让 udev 改写新设备的 MAC；flanneld 随后公布的 MAC 与设备不符。',
  'doctor.cause.managed-by-network-manager': 'NetworkManager 也管理着 Pod 的接口，会删除不是它创建的地址和路由。',
  'doctor.cause.networkd-removes-routes':
    'systemd-networkd 重启时会删除不是它创建的路由：在路由恢复之前无法访问其他节点。',
  'doctor.cause.firewalld-without-pods': 'firewalld 正在运行，但不认识 {network}：它会拒绝 Pod 的报文。',
  'doctor.cause.no-default-route': '没有默认路由，也没有指明通往其他节点的接口（--iface）。',
  'doctor.cause.interface-behind-nat':
    '{address} 是 VirtualBox 在 NAT 之后给每台机器的同一个地址：其他节点无法访问。请用 --iface 或 --iface-can-reach 选择接口。',
  'doctor.cause.published-address-missing': '其他节点发往 {address}，但本节点没有任何接口拥有它。',
  'doctor.cause.address-shared':
    '节点 {nodes} 使用同一个地址 {address}：会互相收走对方的报文。请在各节点用 --iface 选择接口。',
  'doctor.cause.subnet-shared': '节点 {nodes} 使用同一个 Pod 子网 {subnet}：它们的 Pod 地址会重复。',
  'doctor.cause.peer-without-route':
    '没有到节点 {node} 的 Pod（{subnet}）的路由：代理不信任该节点，或者代理没有在这里运行。',
  'doctor.cause.tunnel-mtu-too-large': '{dev} 接受 {mtu} 字节的报文，但只能通过 {most} 字节：小包通，大包丢。',
  'doctor.cause.link-mtu-differs': '{dev} 接受 {mtu} 字节的报文，但隧道只能通过 {wanted} 字节。',
  'doctor.cause.bridge-address-stale': '{dev} 还留着旧网络的地址 {address}；本节点现在是 {wanted}，无法创建 Pod。',
  'doctor.cause.no-conflist': '{directory} 中没有 CNI 配置：运行时无法创建 Pod，节点保持 NotReady。',
  'doctor.cause.conflist-unreadable': '运行时会使用 {file}，但它不是 CNI 配置：{why}',
  'doctor.cause.conflist-shadowed': '运行时使用 {file} 而不是 {other}：按名字排第一的生效。',
  'doctor.cause.plugin-missing': '{file} 需要插件 {type}，但 {directory} 中没有：无法创建 Pod。',
  'doctor.cause.subnet-file-missing': '代理还没有写出 {path}：代理未运行，或者本节点没有 podCIDR。无法创建 Pod。',
  'doctor.cause.subnet-file-broken': '{path} 无法使用：{why}',
  'doctor.cause.subnet-file-stale': '{path} 写的是 {has}，而节点是 {wanted}：代理落后了，或者文件是旧集群留下的。',
  'doctor.cause.agent-absent': '没有代理监听 {socket}：没有程序跟踪集群，每个插件都独立启动。',
  'doctor.cause.agent-silent': '套接字 {socket} 存在但无人应答：代理被杀死，或者卡住了。',
  'doctor.cause.clock-differs': '本机时钟比 API 服务器快 {seconds} 秒：证书和租约会失效。',
  'doctor.cause.conntrack-full': '连接跟踪已有 {used} 条，上限 {most}：满了之后新连接会被丢弃。',
  'doctor.cause.neighbours-full': '邻居表有 {used} 条，{key} 只允许 {most}：满了之后报文会被丢弃。',
  'doctor.cause.port-taken-by-vmware':
    '在 VMware 上，NSX 占用了 UDP 端口 8472：经过 {dev} 的报文在主机之间消失。请在所有节点的网络配置中换一个 "Port"。',
}
