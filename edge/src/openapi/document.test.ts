import { Validator } from '@seriousme/openapi-schema-validator';
import { describe, expect, it } from 'vitest';
import { Gateway, type GatewayParts } from '../gateway.ts';
import { openapiDocument, openapiText } from './document.ts';

const document = openapiDocument() as { paths: Record<string, Record<string, { operationId: string }>> };

describe('the OpenAPI document', () => {
  it('is one, by the schema of OpenAPI 3.1', async () => {
    const validator = new Validator();
    expect(await validator.validate(JSON.parse(openapiText()))).toEqual({ valid: true });
    expect(validator.version).toBe('3.1');
  });

  it('has every endpoint of the gateway, and no other', () => {
    // It only looks its parts up where it serves.
    const { endpoints } = new Gateway({} as GatewayParts);
    const documented = Object.entries(document.paths).flatMap(([path, methods]) =>
      Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
    );
    expect(documented.sort()).toEqual(endpoints.sort());
  });

  it('names operations once, and only schemas that it has', () => {
    const ids = Object.values(document.paths).flatMap((methods) =>
      Object.values(methods).map((one) => one.operationId),
    );
    expect(new Set(ids).size).toBe(ids.length);
    const used = new Set(
      [...openapiText().matchAll(/"\$ref":"#\/components\/(\w+)\/([^"]+)"/g)].map(
        ([, kind, name]) => `${kind} ${name}`,
      ),
    );
    const { components } = JSON.parse(openapiText()) as { components: Record<string, Record<string, unknown>> };
    const there = ['schemas', 'headers'].flatMap((kind) =>
      Object.keys(components[kind] ?? {}).map((name) => `${kind} ${name}`),
    );
    expect([...used].sort()).toEqual(there.sort());
    // Every reference is one of those.
    expect(openapiText().match(/"\$ref"/g)?.length).toBe(
      [...openapiText().matchAll(/"\$ref":"#\/components\/(?:schemas|headers)\//g)].length,
    );
  });
});
