/**
 * The Helm chart: what values it refuses, and what it makes of those beside it. `deploy/helm/rendered` is helm's own output; where helm is installed it is made anew.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { Ajv } from 'ajv';
import { describe, expect, it } from 'vitest';
import { parse, parseAllDocuments } from 'yaml';
import { z } from 'zod';
import { unknownFields } from './known-fields.ts';

const HELM = join(import.meta.dirname, '../helm');
const CHART = join(HELM, 'signpost-region');
const TEMPLATES = join(CHART, 'templates');
const read = (...path: string[]) => readFileSync(join(HELM, ...path), 'utf8');
const require = createRequire(import.meta.url);

const sets = ['minimal', 'full'] as const;

interface Manifest {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly labels: Readonly<Record<string, string>> };
  readonly spec: Record<string, unknown>;
}

const rendered = (set: string): Manifest[] =>
  parseAllDocuments(read('rendered', `${set}.yaml`)).map((document) => document.toJS() as Manifest);
const one = (set: string, kind: string) => rendered(set).find((manifest) => manifest.kind === kind);

describe('the rendered manifests', () => {
  it('are of the chart as it stands (deploy/helm/render.sh makes them)', () => {
    const templates = readdirSync(TEMPLATES).map((name) => `signpost-region/templates/${name}`);
    const bytes = (locale: readonly string[]) => {
      const hash = createHash('sha256');
      for (const path of locale) hash.update(readFileSync(join(HELM, path)));
      return hash.digest('hex');
    };
    const before = ['signpost-region/Chart.yaml', 'signpost-region/values.yaml', 'signpost-region/values.schema.json'];
    const after = ['../alerts/region.yaml', 'minimal.yaml', 'full.yaml'];
    expect(read('rendered', 'SOURCES').trim()).toBe(bytes([...before, ...templates.sort(), ...after]));
  });

  it.skipIf(spawnSync('helm', ['version']).status !== 0)('are what helm makes of it', () => {
    for (const set of sets) {
      const args = ['template', 'eu', CHART, '--kube-version', '1.34.0', '--namespace', 'signpost'];
      const text = execFileSync('helm', [...args, '--values', join(HELM, `${set}.yaml`)], {
        stdio: ['ignore', 'pipe', 'ignore'],
      });
      expect(text.toString()).toBe(read('rendered', `${set}.yaml`));
    }
  });

  it.each(sets)('of %s are what Kubernetes takes, without a field that it doesn’t know', (set) => {
    const custom: Record<string, z.ZodType> = {
      ServiceMonitor: serviceMonitor,
      PrometheusRule: prometheusRule,
      InferencePool: inferencePool,
    };
    const manifests = rendered(set);
    expect(manifests.length).toBeGreaterThan(4);
    for (const manifest of manifests) {
      const { apiVersion, kind } = manifest;
      const schema = custom[kind];
      if (schema !== undefined) {
        expect(schema.safeParse(manifest).error?.message, kind).toBeUndefined();
        continue;
      }
      const model = (
        require(`kubernetes-models/${apiVersion}/${kind}`) as Record<
          string,
          new (
            data: unknown,
          ) => { validate(): void }
        >
      )[kind];
      if (model === undefined) throw new Error(`no model of ${apiVersion} ${kind}`);
      expect(() => new model(manifest).validate(), `${kind}`).not.toThrow();
      expect(unknownFields(manifest, apiVersion, kind)).toEqual([]);
    }
  });

  it('the check of fields finds one that is misspelt', () => {
    const deployment = structuredClone(one('minimal', 'Deployment')) as unknown as {
      spec: { template: { spec: { containers: Record<string, unknown>[] } } };
    };
    const [container = {}] = deployment.spec.template.spec.containers;
    container.readyness = container.readinessProbe;
    expect(unknownFields(deployment, 'apps/v1', 'Deployment')).toEqual([
      'Deployment.spec.template.spec.containers[0].readyness',
    ]);
  });
});

/** The custom resources' own schemas, as far as the chart uses them: monitoring.coreos.com/v1, inference.networking.k8s.io/v1. */
const metadata = z.strictObject({ name: z.string(), labels: z.record(z.string(), z.string()) });
const selector = z.strictObject({ matchLabels: z.record(z.string(), z.string()) });
const serviceMonitor = z.strictObject({
  apiVersion: z.literal('monitoring.coreos.com/v1'),
  kind: z.literal('ServiceMonitor'),
  metadata,
  spec: z.strictObject({
    selector,
    endpoints: z.array(
      z.strictObject({
        port: z.literal('http'),
        path: z.literal('/metrics'),
        interval: z.string(),
        authorization: z.strictObject({
          type: z.literal('Bearer'),
          credentials: z.strictObject({ name: z.string(), key: z.string() }),
        }),
      }),
    ),
  }),
});
const prometheusRule = z.strictObject({
  apiVersion: z.literal('monitoring.coreos.com/v1'),
  kind: z.literal('PrometheusRule'),
  metadata,
  spec: z.strictObject({
    groups: z.array(z.looseObject({ name: z.string(), rules: z.array(z.unknown()).min(1) })).min(1),
  }),
});
const inferencePool = z.strictObject({
  apiVersion: z.literal('inference.networking.k8s.io/v1'),
  kind: z.literal('InferencePool'),
  metadata,
  spec: z.strictObject({
    selector,
    targetPorts: z.array(z.strictObject({ number: z.number().int() })).max(8),
    endpointPickerRef: z.strictObject({
      name: z.string().min(1),
      port: z.strictObject({ number: z.number().int() }),
      failureMode: z.enum(['FailOpen', 'FailClose']),
    }),
  }),
});

interface PodSpec {
  readonly terminationGracePeriodSeconds: number;
  readonly securityContext: Record<string, unknown>;
  readonly containers: readonly {
    readonly env: readonly { readonly name: string; readonly value?: string; readonly valueFrom?: unknown }[];
    readonly lifecycle: { readonly preStop: { readonly sleep: { readonly seconds: number } } };
    readonly livenessProbe: { readonly httpGet: { readonly path: string } };
    readonly readinessProbe: { readonly httpGet: { readonly path: string } };
    readonly resources: { readonly limits: Record<string, unknown> };
    readonly securityContext: Record<string, unknown>;
    readonly volumeMounts: readonly { readonly mountPath: string; readonly readOnly?: boolean }[];
    readonly args?: readonly string[];
  }[];
}

describe.each(sets)('a pod of %s', (set) => {
  const deployment = one(set, 'Deployment');
  if (deployment === undefined) throw new Error('no Deployment');
  const pod = (deployment.spec as { template: { spec: PodSpec } }).template.spec;
  const container = pod.containers[0];
  if (container === undefined) throw new Error('a pod without a container');
  const value = (name: string) => container.env.find((variable) => variable.name === name)?.value;

  it('is killed only after its drain, and what comes before and after it', () => {
    const { seconds } = container.lifecycle.preStop.sleep;
    expect(pod.terminationGracePeriodSeconds).toBeGreaterThanOrEqual(
      Number(value('SIGNPOST_DRAIN_LIMIT')) + seconds + 10,
    );
  });

  it('is nobody, and writes nowhere but in its cache', () => {
    expect(pod.securityContext).toMatchObject({ runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } });
    expect(container.securityContext).toEqual({
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'] },
    });
    const writable = container.volumeMounts
      .filter(({ readOnly }) => readOnly !== true)
      .map(({ mountPath }) => mountPath);
    expect(writable).toEqual(['/cache']);
    expect(value('SIGNPOST_BASE_CACHE')).toMatch(/^\/cache\//);
    expect(value('SIGNPOST_DISK_CACHE')).toMatch(/^\/cache\//);
  });

  it('gets its secrets by reference', () => {
    for (const { name, value: given, valueFrom } of container.env)
      if (/SECRET|METRICS_KEY|ADMIN_KEY/.test(name))
        expect([name, given, valueFrom]).toEqual([name, undefined, expect.anything()]);
    expect(container.env.map(({ name }) => name)).toContain('SIGNPOST_REGION_SECRET');
  });

  it('has settings that signpost-backend has', () => {
    const flags =
      readFileSync(join(HELM, '../../gpu-backend/src/flags.ts'), 'utf8') +
      readFileSync(join(HELM, '../../gpu-backend/src/main.ts'), 'utf8');
    const known = new Set([
      ...[...flags.matchAll(/'--([a-z-]+) </g)].map(
        ([, name = '']) => `SIGNPOST_${name.replaceAll('-', '_').toUpperCase()}`,
      ),
      ...[...flags.matchAll(/SIGNPOST_[A-Z_]+/g)].map(([name]) => name),
    ]);
    const own = container.env.map(({ name }) => name).filter((name) => name.startsWith('SIGNPOST_'));
    expect(own.filter((name) => !known.has(name))).toEqual([]);
    for (const arg of (container.args ?? []).filter((word) => word.startsWith('--')))
      expect(flags).toContain(`'${arg}`);
  });

  it('is asked where the server answers', () => {
    const starting = readFileSync(join(HELM, '../../gpu-backend/src/server/starting.ts'), 'utf8');
    expect(container.livenessProbe.httpGet.path).toBe('/health/live');
    expect(container.readinessProbe.httpGet.path).toBe('/health/ready');
    for (const path of ['/health/live', '/health/ready']) expect(starting).toContain(`'${path}'`);
  });
});

describe('values', () => {
  const check = new Ajv({ strict: false }).compile(parse(read('signpost-region/values.schema.json')) as object);
  const defaults = parse(read('signpost-region/values.yaml')) as Record<string, object>;
  const minimal = parse(read('minimal.yaml')) as Record<string, object>;
  /** As helm merges them: objects into each other, anything else replaced. */
  const merged = (base: unknown, over: unknown): unknown => {
    const isMap = (it: unknown): it is Record<string, unknown> =>
      typeof it === 'object' && it !== null && !Array.isArray(it);
    if (!isMap(base) || !isMap(over)) return over;
    const names = new Set([...Object.keys(base), ...Object.keys(over)]);
    return Object.fromEntries(
      [...names].map((name) => [name, name in over ? merged(base[name], over[name]) : base[name]]),
    );
  };
  const problems = (values: object) => {
    check(merged(merged(defaults, minimal), values));
    return (check.errors ?? []).map(({ instancePath, message }) => `${instancePath} ${message}`).join('\n');
  };

  it.each(sets)('of %s are taken', (set) => {
    check(merged(defaults, parse(read(`${set}.yaml`))));
    expect(check.errors).toBeNull();
  });

  it.each([
    [{ region: 'EU west' }, '/region must match pattern'],
    [{ image: { tag: 'latest' } }, '/image/tag must NOT be valid'],
    [{ image: { tag: '' } }, '/image must match a schema in anyOf'],
    [{ image: { digest: 'sha256:12' } }, '/image/digest must match pattern'],
    [{ store: 'experts' }, '/store must match pattern'],
    [{ base: 'demo' }, '/base must match pattern'],
    [{ secrets: { name: '' } }, '/secrets/name must NOT have fewer than 1 characters'],
    [{ edgeUrls: ['http://signpost.example'] }, '/edgeUrls/0 must match pattern'],
    [{ drainSeconds: -1 }, '/drainSeconds must be >= 0'],
    [{ device: 'tpu' }, '/device must be equal to one of the allowed values'],
    [{ device: 'webgpu' }, '/gpu/count must be >= 1'],
    [{ cache: { size: '40' } }, '/cache/size must match pattern'],
    [{ replica: 2 }, 'must NOT have additional properties'],
    [{ autoscaling: { target: 0 } }, '/autoscaling/target must be >= 1'],
    [{ inferencePool: { enabled: true } }, '/inferencePool/endpointPicker/name must NOT have fewer than 1 characters'],
    [{ extraEnv: [{ name: 'SIGNPOST_ADMIN_KEY', value: 'x' }] }, '/extraEnv/0/name must NOT be valid'],
  ])('%j is refused', (values, problem) => {
    expect(problems(values)).toContain(problem);
  });
});
