/** A table of cases for many plugins: one row is one case for each subject that it is about. */

import type { Basis, Case } from '../case.ts'
import type { Subject } from '../subject.ts'
import type { Trial } from '../trial.ts'

export type Row = readonly [
  id: string,
  basis: Basis,
  asserts: string,
  isAbout: (subject: Subject) => boolean,
  run: (trial: Trial, subject: Subject) => Promise<void>,
  since?: '0.4.0' | '1.1.0',
]

/** What a case of this subject needs. */
export const needsOf = (subject: Subject): Pick<Case, 'plugin' | 'also' | 'needs' | 'programs'> => ({
  plugin: subject.type,
  ...(subject.also === undefined ? {} : { also: subject.also }),
  ...(subject.needs === undefined ? {} : { needs: subject.needs }),
  ...(subject.programs === undefined ? {} : { programs: subject.programs }),
})

export const casesOf = (subject: Subject, rows: readonly Row[]): readonly Case[] =>
  rows
    .filter(([, , , isAbout]) => isAbout(subject))
    .map(([id, basis, asserts, , run, since]) => ({
      ...needsOf(subject),
      id,
      asserts,
      basis,
      ...(since === undefined ? {} : { since }),
      run: (trial) => run(trial, subject),
    }))
