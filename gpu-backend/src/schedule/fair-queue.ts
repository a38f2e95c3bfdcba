/**
 * Whose prompt is next: deficit round robin (Shreedhar and Varghese, 1996) between tenants, in turn between each tenant's experts, first
 * come first served within those.
 *
 * A tenant's turn is a quantum of tokens of the prompts at the front of its line. A turn that a step cuts short goes on in the next step.
 * Rows that a tenant's answers take meanwhile are charged to its next turn, up to half of it: so every turn moves its prompts on.
 */
import type { Sequence } from './sequence.ts';

/** Prompts of one tenant under the same experts. */
export interface Flow {
  /** Their slots, ascending; none is the base. */
  readonly experts: readonly number[];
  /** Waiting or being computed, in order of arrival. */
  readonly prompts: Sequence[];
}

/** A tenant that has prompts. */
export interface Tenant {
  readonly name: string;
  /** In order of their turns within the tenant's; the first has the next one. */
  readonly flows: Flow[];
  /** Tokens left of its turn; at most 0 between turns. */
  credit: number;
}

export class FairQueue {
  readonly #quantum: number;
  /** In order of their turns. */
  readonly #tenants: Tenant[] = [];

  /** @param quantum tokens of a turn. */
  constructor(quantum: number) {
    this.#quantum = quantum;
  }

  get tenants(): readonly Tenant[] {
    return this.#tenants;
  }

  /** In its flow it stands by arrival, so one that comes back (preempted) is not behind those that came later. */
  add(sequence: Sequence): void {
    const { prompts } = this.#flowOf(sequence);
    const after = prompts.findLastIndex(({ arrival }) => arrival < sequence.arrival);
    prompts.splice(after + 1, 0, sequence);
  }

  /** Without effect for a sequence that isn't in it. */
  delete(sequence: Sequence): void {
    const tenant = this.#tenants.find(({ name }) => name === sequence.tenant);
    const flow = tenant?.flows.find((candidate) => isFlowOf(candidate, sequence));
    const index = flow?.prompts.indexOf(sequence) ?? -1;
    if (tenant === undefined || flow === undefined || index === -1) return;
    flow.prompts.splice(index, 1);
    if (flow.prompts.length === 0) tenant.flows.splice(tenant.flows.indexOf(flow), 1);
    if (tenant.flows.length === 0) this.#tenants.splice(this.#tenants.indexOf(tenant), 1);
  }

  /** Counts a decode row against its tenant's next turn. */
  charge({ tenant: name }: Sequence): void {
    const tenant = this.#tenants.find((candidate) => candidate.name === name);
    if (tenant !== undefined) tenant.credit = Math.max(tenant.credit - 1, -Math.floor(this.#quantum / 2));
  }

  /** Begins the tenant's turn, or goes on with it. */
  begin(tenant: Tenant): void {
    if (tenant.credit <= 0) tenant.credit += this.#quantum;
  }

  /** Ends the turn of a tenant's flow: both go to the end of their lines, where they still have prompts. */
  end(tenant: Tenant, flow: Flow): void {
    tenant.credit = Math.min(tenant.credit, 0);
    moveToEnd(tenant.flows, flow);
    moveToEnd(this.#tenants, tenant);
  }

  #flowOf(sequence: Sequence): Flow {
    let tenant = this.#tenants.find(({ name }) => name === sequence.tenant);
    if (tenant === undefined) {
      tenant = { name: sequence.tenant, flows: [], credit: 0 };
      this.#tenants.push(tenant);
    }
    let flow = tenant.flows.find((candidate) => isFlowOf(candidate, sequence));
    if (flow === undefined) {
      flow = { experts: sequence.experts, prompts: [] };
      tenant.flows.push(flow);
    }
    return flow;
  }
}

function isFlowOf({ experts }: Flow, sequence: Sequence): boolean {
  return experts.length === sequence.experts.length && experts.every((slot, i) => slot === sequence.experts[i]);
}

function moveToEnd<T>(list: T[], item: T): void {
  const index = list.indexOf(item);
  if (index !== -1) list.push(...list.splice(index, 1));
}
