/**
 * A plot over time by uPlot, in the page's colours, with what it shows in words.
 */
import { useEffect, useRef, useState } from 'preact/hooks';
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';

export interface Line {
  readonly name: string;
  /** A custom property of the style sheet. */
  readonly colour: string;
  readonly dash: number[];
  /** Where each value is a mark of its own, too: of what has gaps. */
  readonly marks: 'shown' | 'none';
}

interface PlotProps {
  readonly title: string;
  readonly unit: string;
  /** What it shows, in words. */
  readonly summary: string;
  readonly lines: readonly Line[];
  /** Seconds since the epoch. */
  readonly at: readonly number[];
  /** By line. */
  readonly values: readonly (readonly (number | null)[])[];
}

const HEIGHT_PX = 180;
const FONT = '12px system-ui, sans-serif';

export function Plot({ title, unit, summary, lines, at, values }: PlotProps) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | undefined>(undefined);
  const data = [at, ...values] as unknown as uPlot.AlignedData;
  const latest = useRef(data);
  latest.current = data;
  const scheme = useColourScheme();

  // Made anew in the other scheme's colours, too.
  useEffect(() => {
    const element = box.current;
    if (element === null) return;
    const made = new uPlot(optionsOf(lines, unit, element), latest.current, element);
    plot.current = made;
    const sized = new ResizeObserver(() => {
      if (element.clientWidth > 0) made.setSize({ width: element.clientWidth, height: HEIGHT_PX });
    });
    sized.observe(element);
    return () => {
      sized.disconnect();
      made.destroy();
    };
  }, [lines, unit, scheme]);

  useEffect(() => plot.current?.setData(latest.current), [at, values]);

  return (
    <figure class="card plot">
      <figcaption>
        <h3>{title}</h3>
        <p class="hint">{summary}</p>
      </figcaption>
      <div class="plot-box" ref={box} role="img" aria-label={`${title}: ${summary}`} />
      <ul class="legend" aria-label="Lines">
        {lines.map(({ name, colour, dash }) => (
          <li key={name}>
            <span
              class={dash.length > 0 ? 'stroke dashed' : 'stroke'}
              style={{ color: `var(${colour})` }}
              aria-hidden="true"
            />{' '}
            {name}
          </li>
        ))}
      </ul>
    </figure>
  );
}

function optionsOf(lines: readonly Line[], unit: string, element: HTMLElement): uPlot.Options {
  const style = getComputedStyle(element);
  const colour = (name: string) => style.getPropertyValue(name).trim();
  const axis = {
    stroke: colour('--text-2'),
    grid: { stroke: colour('--edge'), width: 1 },
    ticks: { stroke: colour('--edge'), width: 1 },
    font: FONT,
  };
  return {
    width: Math.max(element.clientWidth, 200),
    height: HEIGHT_PX,
    legend: { show: false },
    cursor: { show: false },
    scales: { y: { range: (_, __, max) => [0, max > 0 ? max * 1.1 : 1] } },
    axes: [
      { ...axis, space: 70, values: (_, ticks) => ticks.map(clock) },
      { ...axis, size: 72, values: (_, ticks) => ticks.map((tick) => `${tick} ${unit === 'ms' ? unit : ''}`) },
    ],
    series: [
      {},
      ...lines.map(({ name, colour: property, dash, marks }) => ({
        label: name,
        stroke: colour(property),
        width: 2,
        dash,
        spanGaps: true,
        points: { show: marks === 'shown', size: 5 },
      })),
    ],
  };
}

/** Hours and minutes here. */
function clock(seconds: number): string {
  const at = new Date(seconds * 1_000);
  const two = (value: number) => String(value).padStart(2, '0');
  return `${two(at.getHours())}:${two(at.getMinutes())}`;
}

function useColourScheme(): boolean {
  const [isDark, setDark] = useState(() => matchMedia('(prefers-color-scheme: dark)').matches);
  useEffect(() => {
    const query = matchMedia('(prefers-color-scheme: dark)');
    const change = () => setDark(query.matches);
    query.addEventListener('change', change);
    return () => query.removeEventListener('change', change);
  }, []);
  return isDark;
}
