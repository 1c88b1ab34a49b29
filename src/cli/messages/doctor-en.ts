/** What `heddle doctor` says. */
export const doctorEn = {
  'doctor.summary': 'what is wrong with this node',
  'doctor.description': 'Looks for what is wrong with this node. Needs root.',
} as const
