/**
 * What scrolls by itself, so that the page need not: a wide table on a phone, a long answer.
 */
import type { ComponentChildren } from 'preact';

interface ScrollProps {
  readonly label: string;
  /** All but `wide` have a height of their own, whatever comes to stand in them. */
  readonly kind?: 'wide' | 'tall' | 'report' | 'text';
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
