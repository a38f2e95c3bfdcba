/**
 * Tabs by the ARIA pattern: one of them is in the order of the Tab key, arrows go from one to the next.
 */
import type { ComponentChildren, TargetedKeyboardEvent } from 'preact';

export type Tab = 'playground' | 'fleet' | 'routing';

const TITLES: Readonly<Record<Tab, string>> = { playground: 'Playground', fleet: 'Fleet', routing: 'Routing' };

interface TabListProps {
  readonly tabs: readonly Tab[];
  readonly selected: Tab;
  readonly onSelect: (tab: Tab) => void;
}

export function TabList({ tabs, selected, onSelect }: TabListProps) {
  const onKeyDown = (event: TargetedKeyboardEvent<HTMLDivElement>) => {
    const to = target(event.key, tabs.indexOf(selected), tabs.length);
    const tab = to === undefined ? undefined : tabs[to];
    if (tab === undefined) return;
    event.preventDefault();
    onSelect(tab);
    document.getElementById(`tab-${tab}`)?.focus();
  };
  return (
    <div role="tablist" aria-label="Console" class="tabs" onKeyDown={onKeyDown}>
      {tabs.map((tab) => (
        <button
          key={tab}
          type="button"
          role="tab"
          id={`tab-${tab}`}
          aria-selected={tab === selected}
          aria-controls={`panel-${tab}`}
          tabIndex={tab === selected ? 0 : -1}
          onClick={() => onSelect(tab)}
        >
          {TITLES[tab]}
        </button>
      ))}
    </div>
  );
}

function target(key: string, at: number, count: number): number | undefined {
  switch (key) {
    case 'ArrowRight':
      return (at + 1) % count;
    case 'ArrowLeft':
      return (at + count - 1) % count;
    case 'Home':
      return 0;
    case 'End':
      return count - 1;
    default:
      return undefined;
  }
}

/** Stays there while another is looked at: what was typed and answered is there again. */
export function TabPanel({
  tab,
  selected,
  children,
}: {
  readonly tab: Tab;
  readonly selected: Tab;
  readonly children: ComponentChildren;
}) {
  return (
    <div role="tabpanel" id={`panel-${tab}`} aria-labelledby={`tab-${tab}`} hidden={tab !== selected}>
      {children}
    </div>
  );
}
