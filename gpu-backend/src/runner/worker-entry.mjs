// Starts worker.ts in its thread. Sources run as they are, through tsx, which a thread must register for itself.
import { register } from 'tsx/esm/api';

register();
await import('./worker.ts');
