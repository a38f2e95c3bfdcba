/**
 * Decision records as rules are tried on them.
 */
import { type BodyTest, type DecisionRecord, factsOf } from '@signpost/contracts';
import { isRecordedField, MAX_FIELDS, MAX_VALUE_CHARS } from '../accounts/facts.ts';
import { pagesOf, type ReadPage } from '../accounts/pages.ts';
import type { RecordedRequest } from './dry-run.ts';

/** The latest `limit` of which anything can be told. @param read pages of records as JSON */
export async function readRecorded(read: ReadPage, limit: number): Promise<RecordedRequest[]> {
  const found: RecordedRequest[] = [];
  for await (const items of pagesOf(read)) {
    found.push(...items.flatMap((json) => recordedRequest(JSON.parse(json) as DecisionRecord) ?? []));
    if (found.length >= limit) break;
  }
  return found.slice(0, limit);
}

/** Undefined for a request whose body could not be read. */
export function recordedRequest(record: DecisionRecord): RecordedRequest | undefined {
  const facts = factsOf(record);
  if (facts === undefined) return undefined;
  const {
    'signpost.facts.headers': headers = {},
    'signpost.prompt': prompt,
    'signpost.prompt_chars': chars = 0,
    'signpost.rule': rule,
    'signpost.rules.version': version,
  } = record;
  return {
    id: record.id,
    time: record.time,
    decided: rule === undefined || version === undefined ? undefined : { rule, version },
    facts: {
      ...facts,
      lacks: {
        // An empty one is no secret.
        prompt: chars > 0 && (prompt === undefined || prompt.length < chars),
        header: (name) => !Object.hasOwn(headers, name) || mayBeCut(headers[name]),
        body: (path, test) => lacksBody(record, path, test),
      },
    },
  };
}

/** A value that was longer, perhaps: what is dealt by it, or equals it, nobody can tell. */
function mayBeCut(value: unknown): boolean {
  return typeof value === 'string' && value.length >= MAX_VALUE_CHARS;
}

/**
 * Whether a test of a field hangs on what wasn't recorded. Of a body's own fields all are, but for texts (`accounts/facts.ts`): one that isn't there was none that a
 * number or a truth value equals, and had no fields of its own.
 */
function lacksBody({ 'signpost.facts.body': body }: DecisionRecord, path: string, test: BodyTest): boolean {
  if (body === undefined) return true;
  if (Object.hasOwn(body, path)) return mayBeCut(body[path]);
  const [name = '', ...inner] = path.split('.');
  if (!isRecordedField(name) || Object.keys(body).length >= MAX_FIELDS) return true;
  const value = Object.hasOwn(body, name) ? body[name] : undefined;
  if (inner.length > 0) return typeof value === 'object' && value !== null;
  const mayBeText = test === true || ('anyOf' in test && test.anyOf.some((one) => typeof one === 'string'));
  return value === undefined && mayBeText;
}
