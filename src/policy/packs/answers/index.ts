import type { ResponsePack } from '../response-pack.js'
import { awsAnswers } from './aws.js'
import { messageAnswers } from './messages.js'
import { searchAnswers } from './search.js'
import { serviceAnswers } from './services.js'

/** First match wins. */
export const responsePacks: readonly ResponsePack[] = [
  ...messageAnswers,
  ...awsAnswers,
  ...searchAnswers,
  ...serviceAnswers,
]
