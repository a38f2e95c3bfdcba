/**
 * Secrets don't get out: an output that leads to one is sensitive, and so is a variable that takes one.
 */
import { type Json, referencesIn } from './hcl.ts';
import { expressions, type Finding, type Module } from './module.ts';

/** Attributes that hold secrets, by the types of resources. */
const SECRET_ATTRIBUTES: Readonly<Record<string, readonly string[]>> = {
  random_password: ['result', 'bcrypt_hash'],
  aws_iam_access_key: ['secret', 'ses_smtp_password_v4'],
  aws_secretsmanager_secret_version: ['secret_string', 'secret_binary'],
  cloudflare_account_token: ['value'],
  cloudflare_api_token: ['value'],
  cloudflare_zero_trust_tunnel_cloudflared: ['tunnel_secret'],
  cloudflare_zero_trust_tunnel_cloudflared_token: ['token'],
};
const SECRET_NAME = /(^|_)(secret|password|token|key)$/;

/** Outputs of a module that is called which are marked, by the call's `source`. */
export type SensitiveOutputsOf = (source: string, caller: Module) => ReadonlySet<string>;

export function sensitiveOutputs(module: Module): ReadonlySet<string> {
  return new Set(module.outputs.filter(({ body }) => body.sensitive === true).map(({ name }) => name));
}

export async function checkSecrets(module: Module, sensitiveOutputsOf: SensitiveOutputsOf): Promise<Finding[]> {
  const variables = new Set(module.variables.filter(({ body }) => body.sensitive === true).map(({ name }) => name));
  const calls = new Map(module.calls.map(({ name, body }) => [name, sensitiveOutputsOf(String(body.source), module)]));
  const secretLocals = new Set<string>();
  const locals = new Map(module.locals.map(({ name, value }) => [name, value]));

  /** The first secret that a value leads to. */
  async function secretIn(value: Json): Promise<string | undefined> {
    for (const text of expressions(value))
      for (const reference of await referencesIn(module.name, text)) {
        const [first = '', second = '', third = ''] = reference.replace(/^data\./, '').split('.');
        const behind = new RegExp(`${first}\\.${second}(?:\\[[^\\]]*\\])?\\.(\\w+)`).exec(text)?.[1] ?? third;
        // What is declared to be no secret any more, and hashes: who knows one knows nothing.
        if (/nonsensitive\(|!= null/.test(text) && first !== 'module') continue;
        if (first === 'var' && variables.has(second)) return reference;
        if (first === 'local' && secretLocals.has(second)) return reference;
        if (first === 'module' && calls.get(second)?.has(behind)) return `module.${second}.${behind}`;
        if (SECRET_ATTRIBUTES[first]?.includes(behind)) return `${first}.${second}.${behind}`;
      }
    return undefined;
  }

  // Locals may lead to locals: until no more are found.
  for (let size = -1; size !== secretLocals.size; ) {
    size = secretLocals.size;
    for (const [name, value] of locals)
      if (!secretLocals.has(name) && (await secretIn(value)) !== undefined) secretLocals.add(name);
  }
  const findings: Finding[] = [];
  for (const { name, body } of module.outputs) {
    const secret = await secretIn(body.value ?? null);
    if (secret !== undefined && body.sensitive !== true)
      findings.push({
        at: `${module.name}: output ${name}`,
        problem: `shows ${secret}: mark it with sensitive = true`,
      });
  }
  for (const { name, body } of module.variables)
    if (SECRET_NAME.test(name) && body.sensitive !== true)
      findings.push({
        at: `${module.name}: variable ${name}`,
        problem: 'takes a secret by its name: mark it with sensitive = true',
      });
  for (const { type, name, body } of module.resources) {
    if (type !== 'aws_ecs_task_definition') continue;
    const secret = await secretIn(body.container_definitions ?? null);
    if (secret !== undefined)
      findings.push({
        at: `${module.name}: resource ${type}.${name}`,
        problem: `has ${secret} in its text: let it come from Secrets Manager`,
      });
  }
  return findings;
}
