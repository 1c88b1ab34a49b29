/** The version in package.json; a test keeps the two equal, so that a bundle needs no file beside it. */
export const version = '0.1.0'
