import { fakeTarget } from '../openstack/target.ts'
import { neutronSuite } from './suite.ts'

neutronSuite('fake', fakeTarget)
