/**
 * The chart's manifests held to Kubernetes' own schemas by kubeconform: by those of the Python package kubernetes-validate, unpacked where SIGNPOST_KUBERNETES_SCHEMAS says. Skipped without either.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseAllDocuments } from 'yaml';

const RENDERED = join(import.meta.dirname, '../helm/rendered');
/** Of others than Kubernetes, whose schemas it hasn't: chart.test.ts has them. */
const CUSTOM = ['ServiceMonitor', 'PrometheusRule', 'InferencePool'];

const { SIGNPOST_KUBERNETES_SCHEMAS: schemas = '' } = process.env;
const isThere = schemas !== '' && spawnSync('kubeconform', ['-v']).status === 0;

describe.skipIf(!isThere)('kubeconform', () => {
  let dir: string;
  beforeAll(() => {
    dir = mkdtempSync(join(tmpdir(), 'signpost-kubeconform-'));
  });
  afterAll(() => rmSync(dir, { recursive: true, force: true }));

  /** What it says of manifests, one line each, and how many were valid. */
  function check(text: string): { problems: string[]; valid: number } {
    for (const document of parseAllDocuments(text))
      writeSchema(document.toJS() as { apiVersion: string; kind: string });
    const { stdout } = spawnSync(
      'kubeconform',
      [
        '-strict',
        '-summary',
        '-output',
        'json',
        '-skip',
        CUSTOM.join(),
        '-schema-location',
        `${dir}/{{.ResourceKind}}{{.KindSuffix}}.json`,
      ],
      { input: text, encoding: 'utf8' },
    );
    const { resources, summary } = JSON.parse(stdout) as {
      resources: { kind: string; msg: string }[] | null;
      summary: { valid: number };
    };
    return { problems: (resources ?? []).map(({ kind, msg }) => `${kind}: ${msg}`), valid: summary.valid };
  }

  /** kubeconform finds no definitions in files of their own, where the package has them. */
  function writeSchema({ apiVersion, kind }: { apiVersion: string; kind: string }): void {
    if (CUSTOM.includes(kind)) return;
    const [version = '', group] = apiVersion.split('/').reverse();
    const name =
      `${[kind, group?.split('.')[0], version].filter((part) => part !== undefined).join('-')}.json`.toLowerCase();
    const read = (file: string) =>
      JSON.parse(readFileSync(join(schemas, file), 'utf8').replaceAll(/"[^"#]*#\/\$defs\//g, '"#/$defs/')) as Record<
        string,
        unknown
      >;
    writeFileSync(join(dir, name), JSON.stringify({ ...read(name), $defs: read('_definitions.json').$defs }));
  }

  it.each(['minimal', 'full'])('takes the manifests of %s', (set) => {
    const text = readFileSync(join(RENDERED, `${set}.yaml`), 'utf8');
    const own = parseAllDocuments(text).filter((document) => !CUSTOM.includes(String(document.get('kind'))));
    expect(check(text)).toEqual({ problems: [], valid: own.length });
  });

  it('finds a field that is misspelt', () => {
    const text = readFileSync(join(RENDERED, 'full.yaml'), 'utf8');
    expect(check(text.replace('containerPort:', 'containerPrt:')).problems.join('\n')).toMatch(
      /^Deployment: .*containerPrt/,
    );
  });
});
