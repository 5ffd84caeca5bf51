export const calls: Readonly<Record<string, () => Promise<unknown>>>
/** Calls that cannot be simulated: they are refused, and their caller gets an error. */
export const refused: Readonly<Record<string, () => Promise<unknown>>>
/** `axios 1.21.1, got 16.1.0, …`, as installed. */
export function versions(): string
