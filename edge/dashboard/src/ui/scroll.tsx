/**
 * What scrolls by itself, so that the page need not: a wide table on a phone, a long answer.
 */
import type { ComponentChildren } from 'preact';

interface ScrollProps {
  readonly label: string;
  /** `tall`: a height of its own. */
  readonly kind?: 'wide' | 'tall' | 'text';
  readonly isBusy?: boolean;
  readonly children: ComponentChildren;
}

export function Scroll({ label, kind = 'wide', isBusy = false, children }: ScrollProps) {
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: a keyboard has to reach what scrolls (WCAG 2.1.1)
    <section class={`scroll ${kind}`} aria-label={label} aria-busy={isBusy} tabIndex={0}>
      {children}
    </section>
  );
}
