import type { PolicyRule } from '../schema.js'
import { responsePacks } from './answers/index.js'
import { awsRules } from './aws.js'
import { llmRules } from './llm.js'
import { messageRules } from './messages.js'
import { oauthRules } from './oauth.js'
import { protocolRules } from './protocols.js'
import { searchRules } from './searches.js'
import { suspicionIds } from './suspicious.js'

/** Built-in rules, after the policy's own. Each can be switched off by name in `disable`. */
export const builtinRules: readonly PolicyRule[] = [
  ...llmRules,
  ...oauthRules,
  ...messageRules,
  ...searchRules,
  ...awsRules,
  ...protocolRules,
]

/** Everything `disable` can switch off: rules, answers to blocked calls, notes on suspicious reads. */
export function builtinIds(): string[] {
  return [...builtinRules.map(({ name }) => name), ...responsePacks.map(({ id }) => id), ...suspicionIds]
}
