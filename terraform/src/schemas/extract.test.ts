import { expect, it } from 'vitest';
import { extractSchema } from './extract.ts';

/** As CDK for Terraform generates them. */
const argument = (name: string, type: string, about = '') =>
  `    /**\n    * ${about}\n    *\n    * Docs at Terraform Registry: {@link https://registry.terraform.io/x/docs/resources/thing#${name} Thing#${name}}\n    */\n    readonly ${name.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase())}${type};\n`;
const TYPES = `import * as cdktf from 'cdktf';
export interface ThingConfig extends cdktf.TerraformMetaArguments {
${argument('account_id', ': string')}${argument('is_on', '?: boolean | cdktf.IResolvable')}${argument('tags', '?: {\n        [key: string]: string;\n    }')}${argument('rule', '?: ThingRule[] | cdktf.IResolvable', 'rule block')}${argument('settings', '?: ThingSettings')}}
export interface ThingRule {
${argument('ids', ': string[]')}}
export interface ThingSettings {
${argument('most', '?: number')}}
`;
const CODE = `class ThingSettingsOutputReference extends cdktf.ComplexObject {
    get most() {
        return this.getNumberAttribute('most');
    }
    get seen() {
        return this.getListAttribute('seen');
    }
}
class Thing extends cdktf.TerraformResource {
    constructor() {
        this._settings = new ThingSettingsOutputReference(this, "settings");
        this._labels = new cdktf.StringMap(this, "labels");
    }
    get accountId() {
        return this.getStringAttribute('account_id');
    }
    get arn() {
        return this.getStringAttribute('arn');
    }
}
`;

it('draws arguments, blocks, nested objects, and what the provider tells', () => {
  expect(extractSchema({ types: TYPES, code: CODE })).toEqual({
    attributes: {
      account_id: { type: 'string', use: 'required' },
      arn: { type: 'string', use: 'computed' },
      is_on: { type: 'bool', use: 'optional' },
      labels: { type: 'map(string)', use: 'computed' },
      settings: {
        nested: {
          nesting: 'single',
          body: {
            attributes: { most: { type: 'number', use: 'optional' }, seen: { type: 'list(string)', use: 'computed' } },
          },
        },
        use: 'optional',
      },
      tags: { type: 'map(string)', use: 'optional' },
    },
    blocks: {
      rule: {
        nesting: 'list',
        use: 'optional',
        body: { attributes: { ids: { type: 'list(string)', use: 'required' } } },
      },
    },
  });
});

it.each([
  ['no resource', { types: '', code: CODE }, 'no interface of a resource'],
  ['no class', { types: TYPES, code: '' }, 'no class of a resource'],
  [
    'a type of another generator',
    { types: TYPES.replace('?: number', '?: bigint'), code: CODE },
    'has the type bigint',
  ],
  ['an argument without its name', { types: TYPES.replace('#most', ''), code: CODE }, 'no link to the registry'],
])('says what is wrong with bindings that have %s', (_, bindings, expected) => {
  expect(() => extractSchema(bindings)).toThrow(expected);
});
