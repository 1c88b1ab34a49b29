import { neutronSuite } from '../neutron-ipam/suite.ts'
import { needsCloud, realTarget } from './real.ts'
import { cloudSuite } from './suite.ts'
import { shared } from './target.ts'

// It takes longer to start than all the suites take: they share one.
const start = shared(realTarget, 2)
cloudSuite('real Neutron and Keystone', start, needsCloud())
neutronSuite('real Neutron and Keystone', start, needsCloud(), true)
