import { describe, expect, it } from 'vitest';
import { Classifier, type LoadedModel } from './classifier.ts';

type Load = () => Promise<LoadedModel>;

const model = (probabilities: Record<string, number>, threshold = 0.5, version = '1'): LoadedModel => ({
  model: { labels: Object.keys(probabilities), threshold, classify: async () => probabilities },
  origin: 'test',
  version,
  release: async () => {},
});

/** A classifier with a clock of its own and one load after the other. */
function create(...loads: Load[]) {
  const clock = { now: 1_000_000 };
  const events: string[] = [];
  let next = 0;
  const load: Load = async () => {
    const step = loads[Math.min(next++, loads.length - 1)];
    if (step === undefined) throw new Error('nothing to load');
    return step();
  };
  const classifier = new Classifier({
    newest: async () => '1',
    load,
    bundled: async (why) => {
      throw new Error(why);
    },
    now: () => clock.now,
    log: (event) => events.push(event),
  });
  return { classifier, clock, events, loads: () => next };
}

/** A promise, to be settled from outside. */
function deferred<T>() {
  let [resolve, reject] = [(_: T) => {}, (_: Error) => {}];
  const promise = new Promise<T>((yes, no) => {
    [resolve, reject] = [yes, no];
  });
  return { promise, resolve, reject };
}

const fails: Load = async () => {
  throw new Error('no such model');
};

describe('a classifier', () => {
  it('is cold until it is started, then names the likeliest label', async () => {
    const { classifier } = create(async () => model({ chat: 0.1, math: 0.7, code: 0.2 }));
    expect(await classifier.classify('3 + 4')).toEqual({ state: 'cold' });
    await classifier.start();
    expect(await classifier.classify('3 + 4')).toMatchObject({
      state: 'ready',
      verdict: { label: 'math', confidence: 0.7, threshold: 0.5 },
    });
    expect(classifier.status).toEqual({ status: 'ready', detail: 'test; started in 0 ms' });
  });

  it('abstains below its threshold, and says what it would have said', async () => {
    const { classifier } = create(async () => model({ chat: 0.4, math: 0.35, code: 0.25 }));
    await classifier.start();
    expect(await classifier.classify('hm')).toMatchObject({ state: 'abstained', verdict: { label: 'chat' } });
  });

  it('skips what has no text', async () => {
    const { classifier } = create(async () => model({ chat: 1 }));
    await classifier.start();
    expect(await classifier.classify('')).toEqual({ state: 'skipped' });
  });

  it('is started once, by however many requests at once', async () => {
    const { classifier, loads } = create(async () => model({ chat: 1 }));
    await Promise.all([classifier.start(), classifier.start(), classifier.start()]);
    await classifier.start();
    expect(loads()).toBe(1);
  });

  it('tries again after a failed start, later each time, and not before', async () => {
    const { classifier, clock, events, loads } = create(fails, fails, async () => model({ chat: 1 }));
    await classifier.start();
    expect(await classifier.classify('x')).toEqual({ state: 'failed' });
    expect(classifier.status).toEqual({ status: 'failed', detail: 'no such model' });
    clock.now += 400;
    await classifier.start();
    expect(loads()).toBe(1);
    clock.now += 1_200;
    await classifier.start();
    expect(loads()).toBe(2);
    clock.now += 900;
    await classifier.start();
    expect(loads()).toBe(2);
    clock.now += 2_200;
    await classifier.start();
    expect(await classifier.classify('x')).toMatchObject({ state: 'ready' });
    expect(events).toEqual(['classifier_failed', 'classifier_failed', 'classifier_ready']);
  });

  it('takes a start for lost that never ended', async () => {
    const { classifier, clock, loads } = create(
      () => new Promise(() => {}),
      async () => model({ chat: 1 }),
    );
    void classifier.start();
    await new Promise((resolve) => setTimeout(resolve, 5));
    clock.now += 29_000;
    await classifier.start();
    expect(loads()).toBe(1);
    clock.now += 2_000;
    await classifier.start();
    expect(await classifier.classify('x')).toMatchObject({ state: 'ready' });
  });

  it('lets go of what a start that was taken for lost comes with after all', async () => {
    const late = deferred<LoadedModel>();
    const released: string[] = [];
    const { classifier, clock } = create(
      () => late.promise,
      async () => model({ chat: 1 }),
    );
    const lost = classifier.start();
    await new Promise((resolve) => setTimeout(resolve, 5));
    clock.now += 31_000;
    await classifier.start();
    late.resolve({ ...model({ late: 1 }), release: async () => void released.push('late') });
    await lost;
    expect(released).toEqual(['late']);
    expect(await classifier.classify('x')).toMatchObject({ verdict: { label: 'chat' } });
  });

  it('fails a request’s label, not the request, when the model breaks', async () => {
    const broken = model({ chat: 1 });
    let runs = 0;
    let releases = 0;
    const { classifier } = create(async () => ({
      ...broken,
      release: async () => void releases++,
      model: {
        ...broken.model,
        classify: async () => {
          if (runs++ > 0) throw new Error('out of memory');
          return { chat: 1 };
        },
      },
    }));
    await classifier.start();
    expect(await classifier.classify('x')).toEqual({ state: 'failed' });
    expect(classifier.status).toEqual({ status: 'failed', detail: 'out of memory' });
    expect(releases).toBe(1);
  });

  it('starts with the bundled model where the newest is no good, which it says and doesn’t try again at once', async () => {
    const clock = { now: 0 };
    const log: string[] = [];
    const broken: LoadedModel = {
      ...model({ b: 1 }, 0.5, 'b'),
      model: { labels: ['b'], threshold: 0.5, classify: () => Promise.reject(new Error('it has no output')) },
      release: async () => void log.push('released b'),
    };
    const classifier = new Classifier({
      newest: async () => 'b',
      load: async (version) => {
        log.push(`loads ${version}`);
        return broken;
      },
      bundled: async (why) => ({ ...model({ chat: 1 }, 0.5, 'bundled'), origin: `bundled, because ${why}` }),
      now: () => clock.now,
      log: () => undefined,
    });
    await classifier.start();
    expect(classifier.status.detail).toBe('bundled, because it has no output; started in 0 ms');
    expect(await classifier.classify('x')).toMatchObject({ state: 'ready', verdict: { label: 'chat' } });
    clock.now += 60_000;
    await classifier.start();
    expect(log).toEqual(['loads b', 'released b']);
  });
});

describe('a newer model', () => {
  /** A store whose newest model can be changed, and what is made of it. */
  async function begun() {
    const clock = { now: 1_000_000 };
    const store: { version: string; load: Load } = { version: 'a', load: async () => versioned('a') };
    const log: string[] = [];
    const versioned = (version: string): LoadedModel => ({
      ...model({ [version]: 1 }, 0.5, version),
      release: async () => void log.push(`released ${version}`),
    });
    const classifier = new Classifier({
      newest: async () => store.version,
      load: async (version) => {
        log.push(`loads ${version}`);
        return store.load();
      },
      bundled: () => Promise.reject(new Error('none')),
      now: () => clock.now,
      log: () => undefined,
    });
    await classifier.start();
    log.length = 0;
    const label = async () => {
      const classification = await classifier.classify('text');
      return 'verdict' in classification ? classification.verdict.label : classification.state;
    };
    const later = async (ms: number) => {
      clock.now += ms;
      await classifier.start();
    };
    return { classifier, store, log, label, later, versioned };
  }

  it('takes the place of the one at work within a minute, which is then let go; and so does an older one again', async () => {
    const { store, log, label, later, versioned } = await begun();
    store.version = 'b';
    store.load = async () => versioned('b');
    await later(29_000);
    expect(await label()).toBe('a');
    await later(1_000);
    expect(await label()).toBe('b');
    expect(log).toEqual(['loads b', 'released a']);
    store.version = 'a';
    store.load = async () => versioned('a');
    await later(30_000);
    expect(await label()).toBe('a');
  });

  it('is waited for by nobody', async () => {
    const { store, label, later, versioned } = await begun();
    let arrive = (_: LoadedModel) => {};
    store.version = 'b';
    store.load = () =>
      new Promise((resolve) => {
        arrive = resolve;
      });
    const renewal = later(30_000);
    expect(await label()).toBe('a');
    arrive(versioned('b'));
    await renewal;
    expect(await label()).toBe('b');
  });

  it('is loaded once, however long that takes', async () => {
    const { store, log, label, later, versioned } = await begun();
    const slow = deferred<LoadedModel>();
    store.version = 'b';
    store.load = () => slow.promise;
    const renewal = later(30_000);
    await later(31_000);
    await later(60_000);
    expect(log).toEqual(['loads b']);
    slow.resolve(versioned('b'));
    await renewal;
    expect(await label()).toBe('b');
  });

  it('is loaded again where that was lost, and only one of the two is used', async () => {
    const { store, log, label, later, versioned } = await begun();
    const lost = deferred<LoadedModel>();
    store.version = 'b';
    store.load = () => lost.promise;
    const renewal = later(30_000);
    await expect.poll(() => log).toEqual(['loads b']);
    store.load = async () => versioned('b');
    await later(6 * 60_000);
    expect(await label()).toBe('b');
    lost.resolve(versioned('b, late'));
    await renewal;
    expect(await label()).toBe('b');
    expect(log).toEqual(['loads b', 'loads b', 'released a', 'released b, late']);
  });

  it('answers what the older one was at when it was let go', async () => {
    const { classifier, store, later, versioned } = await begun();
    const cut = deferred<Record<string, number>>();
    let runs = 0;
    store.version = 'b';
    store.load = async () => ({
      ...versioned('b'),
      model: { labels: ['b'], threshold: 0.5, classify: async () => (runs++ === 0 ? { b: 1 } : cut.promise) },
    });
    await later(30_000);
    const classified = classifier.classify('text');
    store.version = 'c';
    store.load = async () => versioned('c');
    await later(30_000);
    cut.reject(new Error('the session is released'));
    expect(await classified).toMatchObject({ state: 'ready', verdict: { label: 'c' } });
    expect(classifier.status.status).toBe('ready');
  });

  it('that can’t be run is let go', async () => {
    const { store, log, label, later, versioned } = await begun();
    store.version = 'b';
    store.load = async () => ({
      ...versioned('b'),
      model: { labels: ['b'], threshold: 0.5, classify: () => Promise.reject(new Error('no such input')) },
    });
    await later(30_000);
    expect(await label()).toBe('a');
    expect(log).toEqual(['loads b', 'released b']);
  });

  it('that is no good is not used, says why, and is not tried again at once', async () => {
    const { classifier, store, log, label, later, versioned } = await begun();
    store.version = 'b';
    store.load = async () => {
      throw new Error('its digest is another');
    };
    await later(30_000);
    expect(await label()).toBe('a');
    expect(classifier.status.detail).toMatch(/test; started in 0 ms; a newer one is not used: its digest is another/);
    await later(60_000);
    expect(log).toEqual(['loads b']);
    // What was mended under another name is taken at the next look.
    store.version = 'c';
    store.load = async () => versioned('c');
    await later(30_000);
    expect(await label()).toBe('c');
    expect(classifier.status.detail).not.toMatch(/not used/);
  });

  it('is asked for again after a while, since it may have been the store that failed', async () => {
    const { store, log, label, later, versioned } = await begun();
    store.version = 'b';
    store.load = async () => {
      throw new Error('overloaded');
    };
    await later(30_000);
    store.load = async () => versioned('b');
    await later(4 * 60_000);
    expect(await label()).toBe('a');
    await later(90_000);
    expect(await label()).toBe('b');
    expect(log).toEqual(['loads b', 'loads b', 'released a']);
  });
});
