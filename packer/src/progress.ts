/**
 * Progress of long work: a bar on a terminal, a plain line every few seconds in a pipe.
 */
import { Problem } from '@signpost/contracts';
import { Presets, SingleBar } from 'cli-progress';

const PLAIN_INTERVAL_MS = 2_000;

export interface Progress {
  /** How much is done of all: bytes, unless made for something else. */
  update(done: number, total: number): void;
  stop(): void;
}

/** @param format an amount as text. */
export function createProgress(
  title: string,
  format: (amount: number) => string = formatBytes,
  stream: NodeJS.WriteStream = process.stderr,
): Progress {
  return stream.isTTY ? terminalBar(title, format, stream) : plainLines(title, format, stream);
}

/** What long work reports to and is stopped by. */
export interface Watch {
  readonly onProgress: Progress['update'];
  readonly signal: AbortSignal;
}

/**
 * Runs long work under a progress bar. Ctrl-C aborts its signal; the work leaves no half file under its own name.
 *
 * @param interrupted what Ctrl-C is answered with.
 */
export async function withProgress<T>(
  title: string,
  work: (watch: Watch) => Promise<T>,
  interrupted = 'interrupted',
): Promise<T> {
  const controller = new AbortController();
  const interrupt = () => controller.abort(new Problem(interrupted));
  process.once('SIGINT', interrupt);
  const progress = createProgress(title);
  try {
    return await work({ onProgress: progress.update, signal: controller.signal });
  } finally {
    progress.stop();
    process.removeListener('SIGINT', interrupt);
  }
}

function terminalBar(title: string, format: (amount: number) => string, stream: NodeJS.WriteStream): Progress {
  const started = performance.now();
  const bar = new SingleBar(
    {
      format: `${title} {bar} {percentage} % {done} of {all}, {rate}/s, {eta_formatted} left`,
      stream,
      hideCursor: true,
      clearOnComplete: false,
    },
    Presets.shades_classic,
  );
  bar.start(1, 0, { done: format(0), all: '?', rate: format(0) });
  return {
    update(done, total) {
      bar.setTotal(total);
      const rate = done / Math.max(1e-3, (performance.now() - started) / 1000);
      bar.update(done, { done: format(done), all: format(total), rate: format(rate) });
    },
    stop: () => bar.stop(),
  };
}

function plainLines(title: string, format: (amount: number) => string, stream: NodeJS.WriteStream): Progress {
  let last = performance.now();
  return {
    update(done, total) {
      const now = performance.now();
      if (done < total && now - last < PLAIN_INTERVAL_MS) return;
      last = now;
      stream.write(`${title}: ${format(done)} of ${format(total)}\n`);
    },
    stop() {},
  };
}

/** 9974152 as "9.5 MiB". */
export function formatBytes(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${value.toFixed(unit === 0 ? 0 : 1)} ${units[unit]}`;
}
