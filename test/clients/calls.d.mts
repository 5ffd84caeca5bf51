export const calls: Readonly<Record<string, () => Promise<unknown>>>
/** `axios 1.21.1, got 16.1.0, …`, as installed. */
export function versions(): string
