export interface InboundMail {
  readonly messageId: string
  readonly from?: string
  readonly subject?: string
  readonly text?: string
  readonly html?: string
}

export function loadMails(): Promise<{ name: string; about: string; mail: InboundMail }[]>

export function newDryRun(): { runId: string; headers(): Record<string, string> }
