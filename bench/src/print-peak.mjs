// Preloaded (`node --import`): a process says at its end how much memory it had at most.
import { isMainThread } from 'node:worker_threads';

if (isMainThread) process.on('exit', () => process.stdout.write(`peak ${process.resourceUsage().maxRSS} KiB\n`));
