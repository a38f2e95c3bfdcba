/**
 * The Durable Object that knows which managed keys there are: one for all, for lists alone. Whether a key is good only its own object says.
 */
import { DurableObject } from 'cloudflare:workers';
import type { KeyRecord } from './record.ts';

export class KeyIndex extends DurableObject {
  /** @throws Error where another key has its id. */
  put(record: KeyRecord): void {
    const known = this.find(record.id);
    if (known !== undefined && known.hash !== record.hash) throw new Error(`another key has the id ${record.id}`);
    this.ctx.storage.kv.put(record.id, record);
  }

  find(id: string): KeyRecord | undefined {
    return this.ctx.storage.kv.get<KeyRecord>(id);
  }

  /** Oldest first. */
  list(): KeyRecord[] {
    return [...this.ctx.storage.kv.list<KeyRecord>()]
      .map(([, record]) => record)
      .sort((a, b) => a.createdAt - b.createdAt || (a.id < b.id ? -1 : 1));
  }
}
