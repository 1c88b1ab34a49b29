import type { Catalogue } from './en.ts'

export const zh: Catalogue = {
  'heddle.summary': 'Kubernetes Pod 网络：CNI 插件、节点代理，以及在本机搭建整套网络的实验环境',
  'heddle.lang': '消息语言：en 或 zh（默认取自 LC_ALL、LC_MESSAGES、LANG）',
  'heddle.version': '显示版本号',
  'heddle.help': '显示本帮助',
  'help.usage': '用法：',
  'help.options': '选项：',
  'help.arguments': '参数：',
  'help.commands': '命令：',
  'lab.summary': '用网络命名空间在本机搭建集群网络：up、status、check、exec、down',
  'cni.summary': '手动执行一份 CNI 网络配置：add、del、check、status、gc、version',
  'agent.summary': '节点代理：为本节点下发网络配置，并响应 CNI 调用',
  'fail.remedy': '处理办法：{remedy}',
  'fail.why': '原因：{why}',
  'fail.unexpected': '这是 Heddle 自身的缺陷，请附上以下内容反馈',
  'fail.missingCommand': '当前构建不包含命令“{command}”',
  'fail.missingCommandRemedy': '更新代码后重新执行 npm start',
}
