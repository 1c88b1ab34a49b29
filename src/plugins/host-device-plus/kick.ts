/** Whether somebody in this process takes care of cards between calls, by the root of their records. */

const keepers = new Map<string, () => void>()

/** Until the result is disposed, calls under this root leave to `kick` what takes long. */
export function registerKeeper(root: string, kick: () => void): Disposable {
  keepers.set(root, kick)
  return {
    [Symbol.dispose]: () => {
      if (keepers.get(root) === kick) keepers.delete(root)
    },
  }
}

/** Something has changed. False where nobody listens. */
export function kickKeeper(root: string): boolean {
  const kick = keepers.get(root)
  kick?.()
  return kick !== undefined
}
