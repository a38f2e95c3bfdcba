import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { readSchemas } from '../schemas/schema.ts';
import { type CheckContext, checkModule } from './all.ts';
import { Interfaces } from './calls.ts';
import { type Module, parseModule } from './module.ts';
import { sensitiveOutputs } from './secrets.ts';
import { readStandIns } from './stand-ins.ts';
import { readTree } from './tree.ts';

let tree: readonly Module[];
let context: CheckContext;
beforeAll(async () => {
  tree = await readTree();
  context = {
    schemas: await readSchemas(),
    interfaces: new Interfaces(tree, await readStandIns()),
    sensitiveOutputsOf: (source, caller) => {
      const called = tree.find(({ folder }) => folder === path.resolve(caller.folder, source));
      return called === undefined ? new Set() : sensitiveOutputs(called);
    },
  };
});

it('finds nothing wrong with modules and examples', async () => {
  expect(tree.map(({ name }) => name).sort()).toEqual([
    'examples/lambda-only',
    'examples/one-region',
    'examples/three-regions',
    'modules/artifacts',
    'modules/edge',
    'modules/lambda-fallback',
    'modules/region-gpu',
  ]);
  expect((await Promise.all(tree.map((module) => checkModule(module, context)))).flat()).toEqual([]);
});

/** What is found wrong with a module of this text, beyond what stands around it. */
async function problems(text: string): Promise<string[]> {
  const around = `terraform {
    required_version = ">= 1.9.0"
    required_providers {
      aws = { source = "hashicorp/aws", version = "~> 6.28" }
      cloudflare = { source = "cloudflare/cloudflare", version = "5.14.0" }
      random = { source = "hashicorp/random", version = "~> 3.7" }
    }
  }`;
  const folder = tree.find(({ name }) => name === 'examples/one-region')?.folder ?? '';
  const module = await parseModule('sample', folder, [
    ['a.tf', around],
    ['b.tf', text],
  ]);
  return (await checkModule(module, context)).map(({ at, problem }) => `${at}: ${problem}`);
}

const VPC = 'resource "aws_vpc" "v" { cidr_block = "10.0.0.0/16" }';

describe('each of these is found', () => {
  it.each([
    ['a misspelt argument', 'resource "aws_vpc" "v" { cidr = "10.0.0.0/16" }', '"cidr" is no argument here'],
    ['a missing argument', 'resource "aws_subnet" "s" { cidr_block = "10.0.0.0/16" }', 'lacks "vpc_id"'],
    ['an unknown resource', 'resource "aws_vpcs" "v" {}', 'no schema knows this resource'],
    [
      'an argument that only the provider tells',
      `resource "aws_vpc" "v" { arn = "arn:aws:x" }`,
      '"arn" can\'t be given',
    ],
    [
      'a text for a number',
      'resource "aws_lambda_function" "f" {\n function_name = "f"\n role = "r"\n timeout = "soon"\n }',
      '"timeout" takes a number, not "soon"',
    ],
    [
      'a text for a list',
      'resource "aws_vpc_endpoint" "e" {\n vpc_id = "v"\n route_table_ids = "rtb-1"\n }',
      '"route_table_ids" takes a list(string)',
    ],
    [
      'a block with =',
      'resource "aws_s3_bucket_versioning" "b" {\n bucket = "b"\n versioning_configuration = { status = "Enabled" }\n }',
      '"versioning_configuration" is a block',
    ],
    [
      'a misspelt argument within a block',
      'resource "aws_s3_bucket_versioning" "b" {\n bucket = "b"\n versioning_configuration { state = "Enabled" }\n }',
      'versioning_configuration: "state" is no argument here',
    ],
    [
      'a missing one within a dynamic block',
      'resource "aws_cloudwatch_metric_alarm" "a" {\n alarm_name = "a"\n comparison_operator = "x"\n evaluation_periods = 1\n dynamic "metric_query" {\n for_each = [1]\n content {\n label = "x"\n }\n }\n }',
      'metric_query: lacks "id"',
    ],
    [
      'a misspelt argument within nested objects',
      'resource "cloudflare_zero_trust_tunnel_cloudflared_config" "c" {\n account_id = "a"\n tunnel_id = "t"\n config = { ingress = [{ host = "h", service = "s" }] }\n }',
      'config: ingress: "host" is no argument here',
    ],
    [
      'a block where an object belongs',
      'resource "cloudflare_worker" "w" {\n account_id = "a"\n name = "w"\n subdomain {\n enabled = true\n }\n }',
      '"subdomain" is an object',
    ],
    [
      'a block twice that may be there once',
      'resource "aws_ecr_repository" "r" {\n name = "r"\n image_scanning_configuration {\n scan_on_push = true\n }\n image_scanning_configuration {\n scan_on_push = true\n }\n }',
      '"image_scanning_configuration" may be there once',
    ],
    ['a variable that is not declared', 'resource "aws_vpc" "v" { cidr_block = var.cidr }', 'var.cidr is not declared'],
    [
      'a local that is not declared',
      'resource "aws_vpc" "v" { cidr_block = local.cidr }',
      'local.cidr is not declared',
    ],
    [
      'a variable that nothing uses',
      'variable "cidr" {\n type = string\n description = "Addresses of it."\n }',
      'var.cidr is declared, but nothing uses it',
    ],
    [
      'a resource that is not there',
      'resource "aws_subnet" "s" { vpc_id = aws_vpc.v.id }',
      'aws_vpc.v is not declared',
    ],
    [
      'an attribute that is not there',
      `${VPC}\nresource "aws_subnet" "s" { vpc_id = aws_vpc.v.identifier }`,
      'aws_vpc.v has no attribute "identifier"',
    ],
    [
      'one behind an index',
      `resource "aws_vpc" "v" {\n count = 1\n cidr_block = "10.0.0.0/16"\n }\nresource "aws_subnet" "s" { vpc_id = aws_vpc.v[0].identifier }`,
      'aws_vpc.v has no attribute "identifier"',
    ],
    [
      'an output that is not there',
      'module "e" {\n source = "../../modules/edge"\n cloudflare_account_id = "a"\n bucket = "b"\n }\noutput "x" {\n description = "Of the edge."\n value = module.e.urls\n }',
      'module.e has no output "urls"',
    ],
    [
      'an input that is not there',
      'module "e" {\n source = "../../modules/edge"\n cloudflare_account_id = "a"\n bucket = "b"\n name_of_worker = "w"\n }',
      '"name_of_worker" is no input',
    ],
    [
      'an input that is missing',
      'module "e" {\n source = "../../modules/edge"\n bucket = "b"\n }',
      'lacks the input "cloudflare_account_id"',
    ],
    [
      'a module of others without one version',
      'module "c" {\n source = "terraform-aws-modules/ecs/aws//modules/cluster"\n version = "~> 7.0"\n }',
      'to one version',
    ],
    [
      'a module nobody knows',
      'module "c" {\n source = "../../modules/edges"\n }',
      'nothing is known of "../../modules/edges"',
    ],
    ['a policy that allows any action', policy('actions = ["s3:*"]\n resources = ["arn:aws:s3:::b"]'), 'allows "s3:*"'],
    [
      'a policy for any resource',
      policy('actions = ["s3:GetObject"]\n resources = ["*"]'),
      'allows s3:GetObject on every resource',
    ],
    [
      'a policy of all but some',
      policy('not_actions = ["s3:PutObject"]\n resources = ["arn:aws:s3:::b"]'),
      'allows all but some actions',
    ],
    [
      'a policy for everybody',
      policy(
        'actions = ["s3:GetObject"]\n resources = ["arn:aws:s3:::b"]\n principals {\n type = "*"\n identifiers = ["*"]\n }',
      ),
      'allows everybody',
    ],
    [
      'a policy in a text',
      'resource "aws_iam_user_policy" "p" {\n user = "u"\n policy = jsonencode({ Statement = [{ Effect = "Allow", Action = "*", Resource = "*" }] })\n }',
      'is written in JSON',
    ],
    [
      "one of AWS's own policies",
      'resource "aws_iam_role_policy_attachment" "p" {\n role = "r"\n policy_arn = "arn:aws:iam::aws:policy/AdministratorAccess"\n }',
      "grants one of AWS's own policies",
    ],
    [
      'a bucket that may become public',
      'resource "aws_s3_bucket_public_access_block" "b" {\n bucket = "b"\n block_public_acls = true\n block_public_policy = false\n ignore_public_acls = true\n restrict_public_buckets = true\n }',
      'block_public_policy must be true',
    ],
    [
      'a bucket whose access nothing blocks',
      'resource "aws_s3_bucket" "b" { bucket = "b" }',
      'has no aws_s3_bucket_public_access_block',
    ],
    [
      'an R2 bucket with a public name',
      'resource "cloudflare_r2_managed_domain" "d" {}',
      'opens the bucket to everybody',
    ],
    [
      'a token for an account',
      'resource "cloudflare_account_token" "t" {\n account_id = "a"\n name = "t"\n policies = [{ effect = "allow", permission_groups = [{ id = "g" }], resources = jsonencode({ "com.cloudflare.api.account.a" = "*" }) }]\n }',
      'is good for a whole account',
    ],
    [
      'a function that a whole service may invoke',
      'resource "aws_lambda_permission" "p" {\n action = "lambda:InvokeFunction"\n function_name = "f"\n principal = "apigateway.amazonaws.com"\n }',
      'name a source_arn',
    ],
    [
      'a function URL without a check',
      'resource "aws_lambda_function_url" "u" {\n function_name = "f"\n authorization_type = "NONE"\n }',
      'is open to everybody',
    ],
    [
      'a secret in an output',
      'resource "random_password" "p" {\n length = 32\n }\noutput "p" {\n description = "Of somebody."\n value = random_password.p.result\n }',
      'shows random_password.p.result',
    ],
    [
      'a secret in an output by way of a local',
      'resource "random_password" "p" {\n length = 32\n }\nlocals {\n a = { x = random_password.p.result }\n b = local.a\n }\noutput "p" {\n description = "Of somebody."\n value = local.b\n }',
      'shows local.b',
    ],
    [
      "another module's secret in an output",
      'module "e" {\n source = "../../modules/edge"\n cloudflare_account_id = "a"\n bucket = "b"\n }\noutput "x" {\n description = "Of the edge."\n value = { key = module.e.admin_key }\n }',
      'shows module.e.admin_key',
    ],
    [
      'a secret variable that is not marked',
      'variable "region_secret" {\n description = "What is signed with."\n type = string\n }\noutput "x" {\n description = "Whether there is one."\n value = var.region_secret == ""\n }',
      'takes a secret by its name',
    ],
    [
      "a secret in a container's text",
      'resource "random_password" "p" {\n length = 32\n }\nresource "aws_ecs_task_definition" "t" {\n family = "t"\n container_definitions = jsonencode([{ environment = [{ name = "KEY", value = random_password.p.result }] }])\n }',
      'let it come from Secrets Manager',
    ],
    ['a variable without a description', 'variable "x" {\n type = string\n }', 'has no description'],
    [
      'a provider that is not pinned',
      'terraform {\n required_providers {\n archive = { source = "hashicorp/archive", version = ">= 2" }\n }\n }',
      'pins the provider archive to no minor version',
    ],
  ])('%s', async (_, text, expected) => {
    expect((await problems(text)).join('\n')).toContain(expected);
  });

  it('and nothing in what is right', async () => {
    expect(await problems(VPC)).toEqual([]);
  });
});

function policy(statement: string): string {
  return `data "aws_iam_policy_document" "p" {\n statement {\n ${statement}\n }\n }`;
}
