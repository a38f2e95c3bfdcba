// A TCP proxy that behaves like a network: a rate that all connections share in each direction, and a delay. Runs in a process of its own.
// Arguments: the port behind it, Mbit/s, and the round trip in milliseconds. Tells its own port over IPC.
//
// It has the window that the machine's own sockets have: it reads no more of a sender while a receiver doesn't take what came.
import { connect, createServer } from 'node:net';

const [port, megabits, roundTripMs] = process.argv.slice(2).map(Number);
const BYTES_PER_MS = (megabits * 1e6) / 8 / 1e3;
/** Of one connection, before the link: what would be in its sender's buffer. */
const QUEUE_BYTES = 128 * 1024;
/** Connections take turns by pieces of this. */
const PIECE_BYTES = 16 * 1024;

class Direction {
  /** When the link will have sent all that it was given. */
  #freeAt = 0;
  /** Pieces under way, by the time at which they arrive. */
  #underWay = [];
  #timer;

  /** Sends a piece, which leaves at `notBefore` at the earliest. `onSent` is called when the link has taken it, `onArrival` when it has come out. */
  send(bytes, notBefore, onSent, onArrival) {
    this.#freeAt = Math.max(this.#freeAt, performance.now()) + bytes / BYTES_PER_MS;
    this.#underWay.push({ at: this.#freeAt, run: onSent });
    this.#underWay.push({ at: Math.max(this.#freeAt, notBefore) + roundTripMs / 2, run: onArrival });
    this.#wake();
  }

  #wake() {
    if (this.#timer !== undefined || this.#underWay.length === 0) return;
    const next = Math.min(...this.#underWay.map(({ at }) => at));
    this.#timer = setTimeout(() => this.#deliver(), Math.max(0, next - performance.now()));
  }

  #deliver() {
    this.#timer = undefined;
    const now = performance.now();
    const due = this.#underWay.filter(({ at }) => at <= now).sort((a, b) => a.at - b.at);
    this.#underWay = this.#underWay.filter(({ at }) => at > now);
    for (const { run } of due) run();
    this.#wake();
  }
}

const up = new Direction();
const down = new Direction();

/** Passes on what `from` sends, from `opensAt` on. */
function pass(direction, from, to, opensAt) {
  let queued = 0;
  let isFull = false;
  const regulate = () => (queued >= QUEUE_BYTES || isFull ? from.pause() : from.resume());
  from.on('data', (data) => {
    for (let at = 0; at < data.byteLength; at += PIECE_BYTES) {
      const piece = data.subarray(at, at + PIECE_BYTES);
      queued += piece.byteLength;
      const onSent = () => {
        queued -= piece.byteLength;
        regulate();
      };
      const onArrival = () => {
        if (to.destroyed || to.write(piece)) return;
        isFull = true;
        to.once('drain', () => {
          isFull = false;
          regulate();
        });
        regulate();
      };
      direction.send(piece.byteLength, opensAt, onSent, onArrival);
    }
    regulate();
  });
  from.on('end', () =>
    direction.send(
      0,
      opensAt,
      () => undefined,
      () => to.end(),
    ),
  );
  from.on('error', () => to.destroy());
  from.on('close', () => {
    if (from.errored !== null) to.destroy();
  });
}

const server = createServer({ allowHalfOpen: true }, (client) => {
  const origin = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  client.setNoDelay(true);
  origin.setNoDelay(true);
  // A connection takes a round trip before anything can be sent.
  pass(up, client, origin, performance.now() + roundTripMs);
  pass(down, origin, client, 0);
});
server.listen(0, '127.0.0.1', () => process.send({ port: server.address().port }));
