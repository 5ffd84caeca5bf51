/** The code of the error it fails with, or `ok`. */
export const code = (promise: PromiseLike<unknown>): Promise<string | undefined> =>
  Promise.resolve(promise).then(
    () => 'ok',
    (error: { code?: string }) => error.code,
  )
