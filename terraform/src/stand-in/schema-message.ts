/**
 * Schemas as a provider tells them to Terraform: messages of its plugin protocol 6 (tfplugin6.proto).
 */
import type { Attribute, Block, Body, ProviderSchema } from '../schemas/schema.ts';
import { MessageWriter } from './protobuf.ts';

const NESTING = { single: 1, list: 2, map: 4 } as const;

/** `GetProviderSchema.Response`. */
export function schemaResponse(
  { resource, data }: Pick<ProviderSchema, 'resource' | 'data'>,
  provider: Body,
): Uint8Array {
  const response = new MessageWriter().message(1, schemaMessage(provider));
  for (const [field, bodies] of [
    [2, resource],
    [3, data],
  ] as const)
    for (const [type, body] of Object.entries(bodies))
      response.message(field, new MessageWriter().text(1, type).message(2, schemaMessage(body)));
  return response.finish();
}

function schemaMessage(body: Body): MessageWriter {
  return new MessageWriter().message(2, blockMessage(body));
}

function blockMessage({ attributes, blocks = {} }: Body): MessageWriter {
  const message = new MessageWriter();
  for (const [name, attribute] of Object.entries(attributes)) message.message(2, attributeMessage(name, attribute));
  for (const [name, block] of Object.entries(blocks)) message.message(3, nestedBlock(name, block));
  return message;
}

function nestedBlock(name: string, { nesting, use, body }: Block): MessageWriter {
  return new MessageWriter()
    .text(1, name)
    .message(2, blockMessage(body))
    .number(3, NESTING.list)
    .number(4, use === 'required' ? 1 : 0)
    .number(5, nesting === 'single' ? 1 : 0);
}

function attributeMessage(name: string, { type, nested, use }: Attribute): MessageWriter {
  const message = new MessageWriter().text(1, name);
  if (nested === undefined) message.text(2, JSON.stringify(typeJson(type ?? 'any')));
  message
    .flag(4, use === 'required')
    // What may be left out is told by the provider then, for all that is known here.
    .flag(5, use === 'optional')
    .flag(6, use === 'computed' || (use === 'optional' && nested === undefined));
  if (nested !== undefined) {
    const object = new MessageWriter();
    for (const [inner, attribute] of Object.entries(nested.body.attributes))
      object.message(1, attributeMessage(inner, attribute));
    message.message(10, object.number(3, NESTING[nested.nesting]));
  }
  return message;
}

function typeJson(type: string): unknown {
  const { container, of = type } = /^(?<container>list|map)\((?<of>\w+)\)$/.exec(type)?.groups ?? {};
  const scalar = of === 'any' ? 'dynamic' : of;
  return container === undefined ? scalar : [container, scalar];
}
