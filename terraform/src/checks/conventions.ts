/**
 * What each module here has: descriptions, messages, pinned providers and versions of Terraform.
 */
import { blocks, type Finding, isObject, type Module } from './module.ts';

export function checkConventions(module: Module): Finding[] {
  const required = module.settings.flatMap((settings) => blocks(settings.required_providers));
  const versions = module.settings
    .map(({ required_version: version }) => version)
    .filter((version) => version !== undefined);
  const declared = new Set(required.flatMap((body) => Object.keys(body)));
  const used = new Set(module.resources.map(({ type }) => type.slice(0, type.indexOf('_'))));
  return [
    ...(versions.length === 1 ? [] : [{ at: module.name, problem: 'needs one required_version' }]),
    ...[...used]
      .filter((provider) => !declared.has(provider))
      .map((provider) => ({
        at: module.name,
        problem: `uses the provider ${provider}, which required_providers lacks`,
      })),
    ...required
      .flatMap((body) => Object.entries(body))
      .flatMap(([name, value]) =>
        isObject(value) &&
        typeof value.source === 'string' &&
        /^(~> \d+\.\d+|\d+\.\d+\.\d+)$/.test(String(value.version))
          ? []
          : [{ at: module.name, problem: `pins the provider ${name} to no minor version: "~> 6.28", or "5.14.0"` }],
      ),
    ...module.variables.flatMap(({ name, body }) => {
      const at = `${module.name}: variable ${name}`;
      return [
        ...(hasText(body.description) ? [] : [{ at, problem: 'has no description' }]),
        ...('type' in body ? [] : [{ at, problem: 'has no type' }]),
        ...blocks(body.validation).flatMap(({ error_message: message }) =>
          hasText(message) ? [] : [{ at, problem: 'has a validation without a message' }],
        ),
      ];
    }),
    ...module.outputs.flatMap(({ name, body }) =>
      hasText(body.description) ? [] : [{ at: `${module.name}: output ${name}`, problem: 'has no description' }],
    ),
  ];
}

function hasText(value: unknown): boolean {
  return typeof value === 'string' && value.length >= 10;
}
