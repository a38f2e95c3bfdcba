/**
 * Durable Objects that can be made unreachable: before each of them stands one that asks a URL whether it may pass a call on.
 */
const NAME = 'objects-behind';

/** A Worker's bindings, as wrangler gives them. */
type Bindings = Readonly<Record<string, { readonly className: string }>>;

/** What a Worker called `owner` has in place of its objects, and another Worker that makes them. */
export function objectsBehind(url: string, objects: Bindings, owner: string) {
  const boundTo = (scriptName: string) =>
    Object.fromEntries(Object.entries(objects).map(([binding, object]) => [binding, { ...object, scriptName }]));
  return {
    durableObjects: boundTo(NAME),
    worker: {
      name: NAME,
      modules: true as const,
      // By it an object knows its name.
      compatibilityDate: '2026-04-25',
      script: scriptOf(objects),
      bindings: { URL: url },
      durableObjects: boundTo(owner),
    },
  };
}

/** Classes that have every method, and pass it on to the object of their own name. */
function scriptOf(objects: Bindings): string {
  const classes = Object.entries(objects).map(
    ([binding, { className }]) => `export const ${className} = behind('${binding}');`,
  );
  return `
    import { DurableObject } from 'cloudflare:workers';
    const behind = (binding) => {
      class Behind extends DurableObject {}
      const passOn = (method) =>
        async function (...args) {
          const { ok, status } = await fetch(this.env.URL);
          if (!ok) throw new Error('unreachable: ' + status);
          return this.env[binding].getByName(this.ctx.id.name)[method](...args);
        };
      Object.setPrototypeOf(
        Behind.prototype,
        new Proxy(DurableObject.prototype, { get: (own, name) => (name in own || typeof name === 'symbol' ? own[name] : passOn(name)) }),
      );
      return Behind;
    };
    ${classes.join('\n')}
    export default {};
  `;
}
