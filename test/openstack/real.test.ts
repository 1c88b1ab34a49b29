import { needsCloud, realTarget } from './real.ts'
import { cloudSuite } from './suite.ts'

cloudSuite('real Neutron and Keystone', realTarget, needsCloud())
