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
  /** Pieces that the link has yet to take, and those that have yet to come out: both in order. */
  #toTake = [];
  #toArrive = [];
  #timer;

  /** Sends a piece, which leaves at `notBefore` at the earliest. `onTaken` is called when the link has taken it, `onArrival` when it has come out. */
  send(bytes, notBefore, onTaken, onArrival) {
    this.#freeAt = Math.max(this.#freeAt, performance.now()) + bytes / BYTES_PER_MS;
    this.#toTake.push({ at: this.#freeAt, run: onTaken });
    const piece = { at: Math.max(this.#freeAt, notBefore) + roundTripMs / 2, run: onArrival };
    // Only what waits for its connection is late.
    let place = this.#toArrive.length;
    while (place > 0 && this.#toArrive[place - 1].at > piece.at) place--;
    this.#toArrive.splice(place, 0, piece);
    this.#wake();
  }

  #wake() {
    const next = Math.min(this.#toTake[0]?.at ?? Infinity, this.#toArrive[0]?.at ?? Infinity);
    if (this.#timer !== undefined || next === Infinity) return;
    this.#timer = setTimeout(() => this.#deliver(), Math.max(0, next - performance.now()));
  }

  #deliver() {
    this.#timer = undefined;
    const now = performance.now();
    for (const line of [this.#toTake, this.#toArrive]) {
      let due = 0;
      while (due < line.length && line[due].at <= now) due++;
      for (const { run } of line.splice(0, due)) run();
    }
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
      const onTaken = () => {
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
      direction.send(piece.byteLength, opensAt, onTaken, onArrival);
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
