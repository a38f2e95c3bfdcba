/**
 * What names a source and what is no weight file of it: known without the Hub's client.
 */
export const HUB_SCHEME = 'hf://';
export const PICKLE = /\.(bin|pt|pth|ckpt)$/;
