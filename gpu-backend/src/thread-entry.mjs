// Starts a module in a worker thread; its URL is the thread's argument. Sources run as they are, through tsx, which a thread must register for itself.
import { register } from 'tsx/esm/api';

register();
await import(process.argv[2]);
