/**
 * What goes wrong when the edge is asked, as it says so itself.
 */
/** What the edge answered in place of what was asked for. */
export class Refusal extends Error {
  override readonly name = 'Refusal';
  /** 0 where there was no answer. */
  readonly status: number;
  /** As the edge's error has it: `missing_api_key`, `version_conflict` … */
  readonly code: string;

  constructor(message: string, status: number, code: string) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** Whatever went wrong, as if the edge had said so. */
export function asRefusal(error: unknown): Refusal {
  return error instanceof Refusal ? error : new Refusal(messageOf(error), 0, 'unknown');
}

/** For people. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
