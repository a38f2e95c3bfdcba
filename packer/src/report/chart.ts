/**
 * Charts as SVG text, for reports: a thin layer over Vega-Lite, which draws without a browser.
 *
 * The same input gives the same bytes. Backgrounds are transparent and colours of middling lightness, so that a chart is legible on light pages as on
 * dark ones. Knows nothing of what is drawn.
 */
import type { TopLevelSpec } from 'vega-lite';

declare module 'vega' {
  /** Left out of the library's types. */
  export const textMetrics: { canvas(use: boolean): void };
}

/** One value of a chart over categories. */
interface SeriesPoint {
  readonly category: string;
  readonly series: string;
  readonly value: number;
}

/** Titles of axes and legends name the unit: `error (relative)`, `retention (%)`. */
export interface SeriesChart {
  readonly title: string;
  readonly mark: 'line' | 'bar';
  readonly categoryTitle: string;
  readonly valueTitle: string;
  readonly seriesTitle: string;
  /** Categories and series stand in the order in which they come first here. Values that are not finite are left out. */
  readonly points: readonly SeriesPoint[];
}

interface HeatMapCell {
  readonly row: string;
  readonly column: string;
  readonly value: number;
}

export interface HeatMap {
  readonly title: string;
  readonly rowTitle: string;
  readonly columnTitle: string;
  readonly valueTitle: string;
  /** In any order; rows and columns stand in the order in which they come first here. */
  readonly cells: readonly HeatMapCell[];
  /** How values are written into the cells, in d3's notation: `d`, `.2f`, `.1%`. */
  readonly format: string;
}

/** Predictions of about the same confidence. */
export interface ReliabilityBin {
  /** Mean over the bin, 0 to 1. */
  readonly confidence: number;
  /** Share that is right, 0 to 1. */
  readonly accuracy: number;
  readonly rows: number;
}

export interface ReliabilityDiagram {
  readonly title: string;
  /** One curve each. */
  readonly series: readonly { readonly name: string; readonly bins: readonly ReliabilityBin[] }[];
}

const TEXT = '#7a7f87';
const GRID = '#7a7f8740';
const PALETTE = ['#3b86c8', '#d8762a', '#3d9d60', '#b3559c', '#c9504f', '#8579cf', '#9c8a2e', '#4fa3a5'];
/** Cells are opaque and bring their own ground, so their text needs no page. */
const HEAT = { low: '#dfe9f3', high: '#1d5c99', onLow: '#1b2733', onHigh: '#ffffff' };
const SIDE = 320;
const WIDTH = 640;
const CELL = 64;

/** Lines or grouped bars: one value by category and series. */
export function seriesChart(chart: SeriesChart): Promise<string> {
  const { title, mark, categoryTitle, valueTitle, seriesTitle, points } = chart;
  const values = points.filter(({ value }) => Number.isFinite(value)).map((point) => ({ ...point }));
  const series = { field: 'series', type: 'nominal', sort: null } as const;
  const axis = { labelAngle: 0, labelOverlap: true } as const;
  const category = { field: 'category', type: 'ordinal', sort: null, title: categoryTitle, axis } as const;
  const common = { data: { values }, title, height: SIDE } as const;
  const y = { field: 'value', type: 'quantitative', title: valueTitle, scale: { zero: true } } as const;
  const color = { ...series, title: seriesTitle };
  if (mark === 'bar') {
    return render({ ...common, mark: 'bar', encoding: { x: category, xOffset: series, y, color } });
  }
  return render({
    ...common,
    width: WIDTH,
    mark: { type: 'line', point: true },
    encoding: { x: category, y, color },
  });
}

/** A matrix of values, the larger the darker; each is written into its cell. */
export function heatMap({ title, rowTitle, columnTitle, valueTitle, cells, format }: HeatMap): Promise<string> {
  const largest = cells.reduce((most, { value }) => Math.max(most, value), 0);
  const value = { field: 'value', type: 'quantitative' } as const;
  return render({
    data: { values: cells.map((cell) => ({ ...cell })) },
    title,
    width: { step: CELL },
    height: { step: CELL },
    encoding: {
      x: { field: 'column', type: 'nominal', sort: null, title: columnTitle, axis: { labelAngle: 0 } },
      y: { field: 'row', type: 'nominal', sort: null, title: rowTitle },
    },
    layer: [
      {
        mark: 'rect',
        encoding: {
          color: { ...value, title: valueTitle, scale: { domain: [0, largest], range: [HEAT.low, HEAT.high] } },
        },
      },
      {
        mark: { type: 'text', fontSize: 12 },
        encoding: {
          text: { ...value, format },
          color: { condition: { test: `datum.value > ${largest / 2}`, value: HEAT.onHigh }, value: HEAT.onLow },
        },
      },
    ],
  });
}

/** Accuracy over confidence: on the diagonal, confidence means what it says; below it, too much is claimed. Points grow with their share of rows. */
export function reliabilityDiagram({ title, series }: ReliabilityDiagram): Promise<string> {
  const values = series.flatMap(({ name, bins }) => {
    const all = bins.reduce((sum, { rows }) => sum + rows, 0);
    return bins.map(({ rows, ...bin }) => ({ ...bin, size: rows / all, series: name }));
  });
  const share = { type: 'quantitative' as const, scale: { domain: [0, 1] }, axis: { format: '.0%' } };
  const x = { ...share, field: 'confidence', title: 'confidence (mean of the bin)' };
  const y = { ...share, field: 'accuracy', title: 'accuracy (share right)' };
  const color = { field: 'series', type: 'nominal', sort: null, title: 'data' } as const;
  const size = {
    field: 'size',
    type: 'quantitative' as const,
    title: 'share of rows',
    scale: { domain: [0, 1], range: [16, 400] },
    legend: { format: '.0%', values: [0.01, 0.1, 0.5, 1] },
  };
  return render({
    title,
    width: SIDE,
    height: SIDE,
    layer: [
      {
        data: {
          values: [
            { confidence: 0, accuracy: 0 },
            { confidence: 1, accuracy: 1 },
          ],
        },
        mark: { type: 'line', color: TEXT, strokeDash: [4, 4], strokeWidth: 1 },
        encoding: { x, y },
      },
      { data: { values }, mark: 'line', encoding: { x, y, color } },
      {
        data: { values },
        mark: { type: 'point', filled: true, opacity: 1 },
        encoding: { x, y, color, size },
      },
    ],
  });
}

/** Loads what draws, which commands that draw nothing need not wait for. */
export async function loadCharts(): Promise<[typeof import('vega'), typeof import('vega-lite')]> {
  return await Promise.all([import('vega'), import('vega-lite')]);
}

async function render(spec: TopLevelSpec): Promise<string> {
  const [vega, { compile }] = await loadCharts();
  // Widths of text are estimated, whether or not a canvas is installed, and ids begin anew: the same input, the same bytes.
  vega.textMetrics.canvas(false);
  vega.resetSVGDefIds();
  const styled: TopLevelSpec = {
    ...spec,
    config: {
      background: 'transparent',
      font: 'system-ui, sans-serif',
      view: { stroke: GRID },
      title: { color: TEXT, anchor: 'start' },
      axis: { labelColor: TEXT, titleColor: TEXT, gridColor: GRID, domainColor: TEXT, tickColor: TEXT },
      legend: { labelColor: TEXT, titleColor: TEXT, symbolBaseFillColor: TEXT },
      range: { category: PALETTE },
    },
  };
  const view = new vega.View(vega.parse(compile(styled).spec), { renderer: 'none' });
  try {
    return `${await view.toSVG()}\n`;
  } finally {
    view.finalize();
  }
}
