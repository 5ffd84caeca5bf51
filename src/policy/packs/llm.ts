import type { PolicyRule } from '../schema.js'

const REASON = 'inference changes no record'

function inference(name: string, host: string, path: string): PolicyRule {
  return { name, match: { system: 'http', host, method: 'POST', path }, effect: 'read', reason: REASON }
}

/** Model inference travels as POST and is what a dry run must really do. Files, batches and fine-tuning stay writes. */
export const llmRules: readonly PolicyRule[] = [
  inference('llm.openai.chat', 'api.openai.com', '/v1/chat/completions'),
  inference('llm.openai.responses', 'api.openai.com', '/v1/responses'),
  inference('llm.openai.embeddings', 'api.openai.com', '/v1/embeddings'),
  inference('llm.openai.moderations', 'api.openai.com', '/v1/moderations'),
  inference('llm.azure-openai', '*.openai.azure.com', '/openai/deployments/*/chat/completions'),
  inference('llm.anthropic.messages', 'api.anthropic.com', '/v1/messages'),
  inference('llm.anthropic.count-tokens', 'api.anthropic.com', '/v1/messages/count_tokens'),
  inference('llm.google.generate', 'generativelanguage.googleapis.com', '/**:*enerateContent'),
  inference('llm.mistral.chat', 'api.mistral.ai', '/v1/chat/completions'),
  inference('llm.cohere.chat', 'api.cohere.com', '/v2/chat'),
  inference('llm.bedrock.invoke', 'bedrock-runtime.*.amazonaws.com', '/model/**'),
]
