/**
 * Who may do what: no policy allows everything, or anything on everything; nothing is open to everybody.
 */
import type { Json, JsonObject } from './hcl.ts';
import { blocks, type Finding, isObject, type Module, nameOf, objectOf } from './module.ts';

/** Actions that AWS knows on all resources only, and that open none by themselves. */
const ON_ALL_ONLY = new Set(['ecr:GetAuthorizationToken']);

const PUBLIC_ACCESS = [
  'block_public_acls',
  'block_public_policy',
  'ignore_public_acls',
  'restrict_public_buckets',
] as const;

export function checkRights(module: Module): Finding[] {
  return module.resources.flatMap((resource) => {
    const at = `${module.name}: ${nameOf(resource)}`;
    const problems =
      resource.type === 'aws_iam_policy_document'
        ? statements(resource.body).flatMap(statementProblems)
        : [...policyTexts(resource.body), ...ownProblems(resource.type, resource.body, module)];
    return problems.map((problem) => ({ at, problem }));
  });
}

/** Those written once for each of a list, too. */
function statements(body: JsonObject): JsonObject[] {
  const dynamic = blocks(body.dynamic).flatMap((group) =>
    blocks(group.statement).flatMap(({ content }) => blocks(content)),
  );
  return [...blocks(body.statement), ...dynamic];
}

function statementProblems(statement: JsonObject): string[] {
  if (statement.effect === 'Deny') return [];
  const actions = strings(statement.actions);
  const wide = actions.filter((action) => action.includes('*'));
  const anyResource =
    strings(statement.resources).some((resource) => resource === '*') &&
    !actions.every((action) => ON_ALL_ONLY.has(action));
  const everybody = blocks(statement.principals).some(({ identifiers }) => strings(identifiers).includes('*'));
  return [
    ...wide.map((action) => `allows "${action}": name the actions`),
    ...('not_actions' in statement ? ['allows all but some actions: name those that are needed'] : []),
    ...('not_resources' in statement ? ['allows all but some resources: name those that are needed'] : []),
    ...(anyResource ? [`allows ${actions.join(', ')} on every resource: name them`] : []),
    ...(everybody && !('condition' in statement) ? ['allows everybody: name the principals'] : []),
  ];
}

/** Policies in JSON by hand would be looked at by nobody. */
function policyTexts(body: JsonObject): string[] {
  return ['policy', 'assume_role_policy', 'inline_policy'].flatMap((name) => {
    const text = JSON.stringify(body[name] ?? '');
    return /Statement/.test(text)
      ? [`"${name}" is written in JSON: use data aws_iam_policy_document, whose rights are checked`]
      : [];
  });
}

function ownProblems(type: string, body: JsonObject, module: Module): string[] {
  switch (type) {
    case 'aws_s3_bucket':
      return module.resources.some((other) => other.type === 'aws_s3_bucket_public_access_block')
        ? []
        : ['has no aws_s3_bucket_public_access_block beside it'];
    case 'aws_s3_bucket_public_access_block':
      return PUBLIC_ACCESS.filter((name) => body[name] !== true).map((name) => `${name} must be true`);
    case 'aws_s3_bucket_acl':
      return ['buckets here have no ACLs: their owner is enforced'];
    case 'cloudflare_r2_managed_domain':
    case 'cloudflare_r2_custom_domain':
      return ['opens the bucket to everybody'];
    case 'aws_lambda_permission':
      return body.principal === '*'
        ? ['lets everybody invoke the function']
        : 'source_arn' in body
          ? []
          : ['lets a whole service invoke the function: name a source_arn'];
    case 'aws_lambda_function_url':
      return body.authorization_type === 'AWS_IAM' ? [] : ['is open to everybody: authorization_type = "AWS_IAM"'];
    case 'aws_vpc_security_group_ingress_rule':
      return body.cidr_ipv4 === '0.0.0.0/0' || body.cidr_ipv6 === '::/0' ? ['lets everybody in'] : [];
    case 'aws_security_group':
      return 'ingress' in body ? ['ingress rules are resources of their own here, which are checked'] : [];
    case 'aws_iam_role_policy_attachment':
    case 'aws_iam_user_policy_attachment':
      return /arn:aws:iam::aws:policy/.test(String(body.policy_arn))
        ? ["grants one of AWS's own policies, which are wider than what is needed"]
        : [];
    case 'cloudflare_account_token':
    case 'cloudflare_api_token':
      return tokenPolicies(body.policies).flatMap(tokenProblems);
    default:
      return [];
  }
}

function tokenPolicies(value: Json | undefined): JsonObject[] {
  return Array.isArray(value) ? value.filter(isObject) : [objectOf(value)];
}

/** `{ "com.cloudflare.edge.r2.bucket.…" = "*" }` is all of one bucket; an account's or a zone's is all of it. */
function tokenProblems({ resources }: JsonObject): string[] {
  const text = typeof resources === 'string' ? resources : JSON.stringify(resources ?? '');
  if (/com\.cloudflare\.api\.(account|user)/.test(text))
    return ['is good for a whole account: name a bucket, or a zone'];
  return /r2_bucket_resource|com\.cloudflare\.edge\.r2\.bucket\./.test(text)
    ? []
    : ['name the bucket that the token is good for'];
}

function strings(value: Json | undefined): string[] {
  return (Array.isArray(value) ? value : [value]).filter((item) => typeof item === 'string');
}
