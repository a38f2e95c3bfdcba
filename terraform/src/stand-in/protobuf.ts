/**
 * Protocol Buffers, as far as Terraform's plugin protocol needs them here.
 */

export class MessageWriter {
  readonly #parts: Uint8Array[] = [];

  number(field: number, value: number): this {
    if (value !== 0) this.#parts.push(varint(field << 3), varint(value));
    return this;
  }

  flag(field: number, isSet: boolean): this {
    return this.number(field, Number(isSet));
  }

  text(field: number, value: string): this {
    return this.bytes(field, Buffer.from(value, 'utf8'));
  }

  message(field: number, value: MessageWriter): this {
    return this.bytes(field, value.finish());
  }

  bytes(field: number, value: Uint8Array): this {
    this.#parts.push(varint((field << 3) | 2), varint(value.length), value);
    return this;
  }

  finish(): Uint8Array {
    return Buffer.concat(this.#parts);
  }
}

/** @param value not negative, below 2³¹ */
function varint(value: number): Uint8Array {
  const bytes: number[] = [];
  let rest = value;
  for (; rest > 0x7f; rest >>>= 7) bytes.push((rest & 0x7f) | 0x80);
  return Uint8Array.from([...bytes, rest]);
}

/** The first field of that number which has a length: a text, bytes, a message. */
export function lengthDelimited(message: Uint8Array, field: number): Uint8Array | undefined {
  let at = 0;
  function next(): number {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = message[at++] ?? 0;
      value |= (byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
  }
  while (at < message.length) {
    const tag = next();
    // Numbers; nothing that is read here has others.
    if ((tag & 7) === 0) next();
    else {
      const length = next();
      if (tag >>> 3 === field) return message.subarray(at, at + length);
      at += length;
    }
  }
  return undefined;
}
