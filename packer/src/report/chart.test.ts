import { describe, expect, it } from 'vitest';
import { heatMap, reliabilityDiagram, type SeriesChart, seriesChart } from './chart.ts';

const lines: SeriesChart = {
  title: 'Error <by> layer & module',
  mark: 'line',
  categoryTitle: 'layer',
  valueTitle: 'error (relative)',
  seriesTitle: 'module',
  points: ['0', '1', '10', '2'].flatMap((category, i) => [
    { category, series: 'q_proj', value: 0.1 * i },
    { category, series: 'up_proj', value: 0.5 },
  ]),
};
const cells = [
  { row: 'chat', column: 'chat', value: 700 },
  { row: 'chat', column: 'math', value: 3 },
  { row: 'math', column: 'chat', value: 12 },
  { row: 'math', column: 'math', value: 801 },
];
const map = { title: 'Confusion', rowTitle: 'label', columnTitle: 'said', valueTitle: 'rows', cells, format: 'd' };
const reliability = {
  title: 'Reliability',
  series: [
    {
      name: 'valid',
      bins: [
        { confidence: 0.55, accuracy: 0.6, rows: 12 },
        { confidence: 0.95, accuracy: 0.97, rows: 300 },
      ],
    },
  ],
};

/** Texts of an SVG in the order they stand in. */
const textsOf = (svg: string) => [...svg.matchAll(/<text[^>]*>([^<]*)<\/text>/g)].map(([, text]) => text);

describe('charts', () => {
  it.each([
    ['lines', () => seriesChart(lines)],
    ['bars', () => seriesChart({ ...lines, mark: 'bar' })],
    ['a heat map', () => heatMap(map)],
    ['a reliability diagram', () => reliabilityDiagram(reliability)],
  ])('of %s are SVG without a background, and the same bytes each time', async (_, draw) => {
    const [first, second] = [await draw(), await draw()];
    expect(first).toMatch(/^<svg [^>]*xmlns="http:\/\/www.w3.org\/2000\/svg"/);
    expect(first).not.toMatch(/NaN|undefined|<rect[^>]*class="background"[^>]*fill="white"/);
    expect(second).toBe(first);
  });

  it('name title, axes, series and categories, in the order given', async () => {
    const texts = textsOf(await seriesChart(lines));
    expect(texts).toEqual(
      expect.arrayContaining(['Error &lt;by&gt; layer &amp; module', 'layer', 'error (relative)', 'module']),
    );
    expect(texts.filter((text) => /^(0|1|10|2)$/.test(text ?? ''))).toEqual(['0', '1', '10', '2']);
    expect(texts.filter((text) => /_proj$/.test(text ?? ''))).toEqual(['q_proj', 'up_proj']);
  });

  it('leave out what is no number', async () => {
    const points = [...lines.points, { category: '3', series: 'q_proj', value: Number.NaN }];
    expect(await seriesChart({ ...lines, points })).toBe(await seriesChart(lines));
  });

  it('of a matrix write each value into its cell', async () => {
    expect(textsOf(await heatMap(map))).toEqual(expect.arrayContaining(['700', '3', '12', '801']));
  });
});
