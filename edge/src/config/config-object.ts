/**
 * The Durable Object that keeps the versions of `routing.yaml`, and writes the one in force to KV: one for all.
 */
import { DurableObject } from 'cloudflare:workers';
import { readConfig, writeConfig } from './kv.ts';
import { type ConfigPut, type ConfigText, type ConfigVersion, ConfigVersions, type VersionStore } from './versions.ts';

/** KV's own least. */
const KV_CACHE_SECONDS = 30;

export class ConfigLog extends DurableObject<{ readonly CONFIG: KVNamespace }> {
  readonly #versions = new ConfigVersions({
    versions: new VersionTable(this.ctx.storage.sql),
    kv: {
      read: () => readConfig(this.env.CONFIG, KV_CACHE_SECONDS),
      write: (text, number) => writeConfig(this.env.CONFIG, text, number),
    },
    now: () => Date.now(),
  });

  current() {
    return this.#versions.current();
  }

  put(put: ConfigPut) {
    return this.#versions.put(put);
  }

  list(limit: number) {
    return this.#versions.list(limit);
  }

  byNumber(number: number) {
    return this.#versions.byNumber(number);
  }
}

interface Row extends Record<string, SqlStorageValue> {
  number: number;
  sha256: string;
  at: number;
  by: string;
  message: string | null;
}

/** A table in the object's own database. */
class VersionTable implements VersionStore {
  readonly #sql: SqlStorage;

  constructor(sql: SqlStorage) {
    this.#sql = sql;
    sql.exec(
      'CREATE TABLE IF NOT EXISTS version (number INTEGER PRIMARY KEY, sha256 TEXT NOT NULL, at INTEGER NOT NULL, "by" TEXT NOT NULL, message TEXT, text TEXT NOT NULL)',
    );
  }

  latest() {
    return this.#one('ORDER BY number DESC LIMIT 1');
  }

  byNumber(number: number) {
    return this.#one('WHERE number = ?', number);
  }

  byDigest(digest: string) {
    return this.#one('WHERE sha256 = ? ORDER BY number DESC LIMIT 1', digest);
  }

  list(limit: number) {
    return this.#sql
      .exec<Row>('SELECT number, sha256, at, "by", message FROM version ORDER BY number DESC LIMIT ?', limit)
      .toArray()
      .map(versionOf);
  }

  add({ number, sha256, at, by, message, text }: ConfigText) {
    this.#sql.exec(
      'INSERT INTO version (number, sha256, at, "by", message, text) VALUES (?, ?, ?, ?, ?, ?)',
      number,
      sha256,
      at,
      by,
      message ?? null,
      text,
    );
  }

  remove(number: number) {
    this.#sql.exec('DELETE FROM version WHERE number = ?', number);
  }

  #one(where: string, ...values: SqlStorageValue[]): ConfigText | undefined {
    const [row] = this.#sql.exec<Row & { text: string }>(`SELECT * FROM version ${where}`, ...values).toArray();
    return row === undefined ? undefined : { ...versionOf(row), text: row.text };
  }
}

function versionOf({ number, sha256, at, by, message }: Row): ConfigVersion {
  return { number, sha256: sha256 as ConfigVersion['sha256'], at, by, message: message ?? undefined };
}
