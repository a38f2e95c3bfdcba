/**
 * The OpenAPI document (3.1.1) of the edge, made from the schemas that check requests and the table of endpoints.
 */
import { z } from 'zod';
import { ENDPOINTS, type Endpoint, SCHEMAS, type SchemaName } from './endpoints.ts';

type Json = Readonly<Record<string, unknown>>;

let text: string | undefined;

/** Made once an isolate, when it is first asked for. */
export function openapiText(): string {
  text ??= JSON.stringify(openapiDocument());
  return text;
}

export function openapiDocument(): Json {
  const paths: Record<string, Record<string, Json>> = {};
  for (const endpoint of ENDPOINTS) {
    const path = paths[endpoint.path] ?? {};
    paths[endpoint.path] = { ...path, [endpoint.method]: operation(endpoint) };
  }
  const schemas = Object.entries(SCHEMAS).map(([name, schema]) => [name, jsonSchema(schema)]);
  return {
    openapi: '3.1.1',
    info: {
      title: 'Signpost edge',
      version: '1',
      description:
        'One base model, many 1-bit experts. Chat, completions and models are OpenAI’s, with vLLM’s further fields. The admin API (`/admin/…`) is for whoever runs it and not part of this.',
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    servers: [{ url: '/' }],
    paths,
    components: { schemas: Object.fromEntries(schemas), headers: HEADERS, securitySchemes: SECURITY_SCHEMES },
  };
}

const SECURITY_SCHEMES = {
  apiKey: { type: 'http', scheme: 'bearer', description: 'An API key; none is needed where the edge serves everybody' },
  metricsKey: { type: 'http', scheme: 'bearer', description: 'A key from METRICS_KEY_HASHES' },
  regionToken: {
    type: 'http',
    scheme: 'bearer',
    bearerFormat: 'JWT',
    description: 'Signed with the secret that regions and edge share',
  },
} as const satisfies Record<Exclude<Endpoint['access'], 'none'>, Json>;

const string = { type: 'string' };
/** On every answer, */
const COMMON_HEADERS = {
  'x-request-id': {
    description: 'The app’s own where it sent one, else a new one; what feedback names the decision by',
    schema: string,
  },
  'x-signpost-trace': { description: 'W3C trace id, the request’s own where it sent one', schema: string },
  'server-timing': { description: 'Milliseconds of each part, the region’s own after the edge’s', schema: string },
} as const;
/** on those that come from a region, */
const REGION_HEADERS = {
  'x-signpost-region': {
    description: 'Where; missing where a stream begins before any region has answered',
    schema: string,
  },
} as const;
/** and on those that were routed. */
const ROUTED_HEADERS = {
  'x-signpost-classifier': { description: 'ready, abstained, skipped, cold or failed', schema: string },
  'x-signpost-label': { description: 'What the classifier said, where it said something', schema: string },
  'x-signpost-confidence': { description: 'How sure it was, 0 to 1', schema: string },
  'x-signpost-rule': { description: 'The rule that decided', schema: string },
  'x-signpost-rules': { description: 'Version of the rules', schema: string },
  'x-signpost-expert': { description: 'What answers: an expert, or a mixture', schema: string },
  'x-signpost-version': {
    description: 'The versions that the edge chose of channels that several share, with share and key',
    schema: string,
  },
  'x-signpost-cache': { description: 'hit, miss or bypass, where the rule keeps answers', schema: string },
  'x-ratelimit-limit-requests': { description: 'Of the key, a minute', schema: string },
  'x-ratelimit-limit-tokens': { description: 'Of the key, a UTC day', schema: string },
  'x-ratelimit-remaining-requests': { description: 'What is left of them', schema: string },
  'x-ratelimit-remaining-tokens': { description: 'What is left of them', schema: string },
  'x-ratelimit-reset-requests': { description: 'When all are there again, as `6m0s`', schema: string },
  'x-ratelimit-reset-tokens': { description: 'When all are there again, as `6m0s`', schema: string },
  'x-signpost-digest': { description: 'Digests of the experts that answer', schema: string },
} as const;
/** On an answer that was kept; */
const KEPT_HEADERS = {
  age: { description: 'Seconds since it was made, of an answer that was kept', schema: string },
} as const;
/** on errors, by status: those that another try may mend. */
const RETRY_HEADERS = {
  'retry-after': { description: 'Seconds until it is worth another try, where that is known', schema: string },
} as const;
const NO_RETRY_HEADERS = {
  'x-should-retry': {
    description: '`false` where the key’s tokens of the day are used up: OpenAI’s clients would try again',
    schema: string,
  },
} as const;
const ROUTED = { ...COMMON_HEADERS, ...REGION_HEADERS, ...ROUTED_HEADERS };
const HEADERS = { ...ROUTED, ...KEPT_HEADERS, ...RETRY_HEADERS, ...NO_RETRY_HEADERS };
const HEADERS_THAT_TELL = { answer: ROUTED, decision: ROUTED, region: { ...COMMON_HEADERS, ...REGION_HEADERS } };
const HEADERS_OF_STATUS: Readonly<Record<number, Json>> = {
  429: { ...RETRY_HEADERS, ...NO_RETRY_HEADERS },
  503: RETRY_HEADERS,
};
/** Who can't be let in: without a good key; or, of an API key, while nobody can say whether it is one. */
const ACCESS_ERRORS: Readonly<Record<Endpoint['access'], readonly number[]>> = {
  none: [],
  apiKey: [401, 503],
  metricsKey: [401],
  regionToken: [401],
};

const REASONS: Readonly<Record<number, string>> = {
  400: 'The request is wrong; `param` names the field',
  401: 'The key is missing, malformed or unknown',
  403: 'A rule refuses it, or the key may not use the model',
  404: 'There is no such thing',
  413: 'The body is too large',
  429: 'Too much at the moment, for the regions or the key’s limits',
  500: 'The edge’s or the region’s fault',
  503: 'No region answered, or the key can’t be looked up right now',
  504: 'It took longer than the app or the region allows',
};

function operation(endpoint: Endpoint): Json {
  const { id, summary, access, query = {}, takes, answers, errors } = endpoint;
  const parameters = Object.entries(query).map(([name, { description, schema }]) => ({
    name,
    in: 'query',
    description,
    schema: jsonSchema(schema),
  }));
  const statuses = [...errors, ...ACCESS_ERRORS[access], 500].sort((a, b) => a - b);
  const failures = statuses.map((status) => [
    status,
    {
      description: REASONS[status],
      headers: headersOf(endpoint, status),
      content: { 'application/json': { schema: reference('Error') } },
    },
  ]);
  return {
    operationId: id,
    summary,
    ...(parameters.length === 0 ? {} : { parameters }),
    ...(takes === undefined
      ? {}
      : { requestBody: { required: true, content: { 'application/json': { schema: reference(takes) } } } }),
    responses: {
      200: { description: 'As asked', headers: headersOf(endpoint, 200), content: contentOf(answers) },
      ...Object.fromEntries(failures),
    },
    security: access === 'none' ? [] : [...(access === 'apiKey' ? [{}] : []), { [access]: [] }],
  };
}

function headersOf({ tells }: Endpoint, status: number): Json {
  const names = Object.keys({
    ...(tells === undefined ? COMMON_HEADERS : HEADERS_THAT_TELL[tells]),
    ...(tells === 'answer' && status === 200 ? KEPT_HEADERS : {}),
    ...HEADERS_OF_STATUS[status],
  });
  return Object.fromEntries(names.map((name) => [name, { $ref: `#/components/headers/${name}` }]));
}

/** Of a stream the schema is that of each event’s data. */
function contentOf(answers: Endpoint['answers']): Json {
  return Object.fromEntries(
    Object.entries(answers).map(([type, name]) => {
      if (type === 'application/json')
        return [type, { schema: name === 'text' ? { type: 'object' } : reference(name) }];
      if (name === 'text') return [type, { schema: string }];
      const description = `Server-sent events; the data of each is a ${name}, an Error at the end of a stream that broke, or \`[DONE]\``;
      return [
        type,
        {
          schema: { type: 'string', description, contentMediaType: 'application/json', contentSchema: reference(name) },
        },
      ];
    }),
  );
}

function reference(name: SchemaName): Json {
  return { $ref: `#/components/schemas/${name}` };
}

/** As the app writes it. What JSON Schema can't say (of two fields one, say) is left to the answer. */
function jsonSchema(schema: z.ZodType): Json {
  const { $schema: _, ...rest } = z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' });
  return rest;
}
