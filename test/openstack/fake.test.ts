import { cloudSuite } from './suite.ts'
import { fakeTarget } from './target.ts'

cloudSuite('fake', fakeTarget)
