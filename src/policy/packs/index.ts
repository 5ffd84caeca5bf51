import type { PolicyRule } from '../schema.js'
import { llmRules } from './llm.js'
import { oauthRules } from './oauth.js'

/** Built-in rules, after the policy's own. Each can be switched off by name in `disable`. */
export const builtinRules: readonly PolicyRule[] = [...llmRules, ...oauthRules]
