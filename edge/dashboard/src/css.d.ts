/** Bundled into one style sheet (build.ts). */
declare module '*.css';
