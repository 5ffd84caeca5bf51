import type { InboundMail } from './mails.mjs'

export interface Answer {
  readonly outcome: 'ticket_opened' | 'appended' | 'needs_human'
  readonly ticketId: number
  readonly category?: string
  readonly urgency?: string
  readonly changed?: readonly string[]
  readonly followUp?: boolean
}

export interface ServiceProcess {
  readonly url: string
  readonly pid: number
  readonly log: readonly string[]
  post(mail: InboundMail, headers?: Readonly<Record<string, string>>): Promise<{ status: number; body: Answer }>
  stop(): Promise<number | null>
}

export function startService(options: {
  env: Readonly<Record<string, string>>
  preload?: string
  onLine?: (line: string) => void
}): Promise<ServiceProcess>
