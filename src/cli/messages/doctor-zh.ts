import type { doctorEn } from './doctor-en.ts'

export const doctorZh: Readonly<Record<keyof typeof doctorEn, string>> = {
  'doctor.summary': '检查本节点有什么问题',
  'doctor.description': '检查本节点有什么问题。需要 root 权限。',
}
