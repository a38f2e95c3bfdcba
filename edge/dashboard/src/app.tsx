/**
 * The page: its head, its three tabs, and the keys that they ask with.
 */
import { useCallback, useMemo, useState } from 'preact/hooks';
import { Client, type KeyKind, type Keys } from './api/client.ts';
import { FleetTab } from './fleet/fleet-tab.tsx';
import { Playground } from './playground/playground.tsx';
import { RoutingTab } from './routing/routing-tab.tsx';
import { type Tab, TabList, TabPanel } from './ui/tabs.tsx';

const TABS = ['playground', 'fleet', 'routing'] as const satisfies readonly Tab[];

export function App() {
  const [tab, setTab] = useState<Tab>(() => TABS.find((name) => location.hash === `#${name}`) ?? 'playground');
  const [keys, setKeys] = useState<Keys>({});
  const client = useMemo(() => new Client(keys), [keys]);
  const setKey = useCallback(
    (kind: KeyKind, key: string | undefined) =>
      setKeys(({ [kind]: _, ...others }) => (key === undefined ? others : { ...others, [kind]: key })),
    [],
  );
  const select = (name: Tab) => {
    setTab(name);
    history.replaceState(null, '', `#${name}`);
  };
  const held = (['api', 'operator'] as const).filter((kind) => keys[kind] !== undefined);
  return (
    <>
      <header class="head">
        <h1>
          <span class="sign" aria-hidden="true">
            ⇆
          </span>{' '}
          Signpost
        </h1>
        <TabList tabs={TABS} selected={tab} onSelect={select} />
        <div class="keys">
          {held.map((kind) => (
            <button key={kind} type="button" class="quiet" onClick={() => setKey(kind, undefined)}>
              Forget {kind === 'api' ? 'API' : 'operator'} key
            </button>
          ))}
        </div>
      </header>
      <main>
        <TabPanel tab="playground" selected={tab}>
          <Playground client={client} onKey={setKey} />
        </TabPanel>
        <TabPanel tab="fleet" selected={tab}>
          <FleetTab client={client} onKey={setKey} isShown={tab === 'fleet'} />
        </TabPanel>
        <TabPanel tab="routing" selected={tab}>
          <RoutingTab client={client} onKey={setKey} isShown={tab === 'routing'} />
        </TabPanel>
      </main>
    </>
  );
}
