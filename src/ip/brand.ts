declare const brand: unique symbol

/** Text that only one function makes, so that holding it proves its form. */
export type Brand<Name extends string> = string & { readonly [brand]: Name }
