/**
 * The delta file: one expert as 1-bit planes and exact differences from its base, in a safetensors file.
 *
 * For a 1-bit matrix `X` of shape (out, in): `X.sign.<p>` U32 (out, ceil(in / 32)), `X.row_scale.<p>` F32 (out) or (1), optional
 * `X.col_scale.<p>` F32 (in). For what is kept exact: `X.delta` BF16 in the base's shape, or I8 with `X.delta_scale` F32 (out), of a vector (1). Rows that
 * the fine-tune added to the embedding and to a head of its own: `X.added` BF16 (k, hidden). `X` is the parameter's checkpoint name without `.weight`
 * (biases keep `.bias`). This module turns a header into a checked layout; it reads no tensor data.
 */
import { z } from 'zod';
import { type Digest, digestSchema } from './digest.ts';
import { Problem, parseWith } from './problem.ts';
import { type Dtype, MAX_HEADER_BYTES, type SafetensorsHeader, type TensorInfo } from './safetensors.ts';
import { MAX_ADDED_ROWS, MAX_TOKENIZER_CHANGES, tokenizerChangesSchema } from './tokenizer-changes.ts';

export const DELTA_FORMAT = 'signpost-delta/1';
/** More planes than this spend more bytes than an 8-bit difference would. */
export const MAX_PLANES = 8;

const jsonOf = <T>(schema: z.ZodType<T>, maxLength = MAX_HEADER_BYTES) =>
  z
    .string()
    .max(maxLength, `longer than ${maxLength} characters`)
    .transform((text, context): T => {
      try {
        return schema.parse(JSON.parse(text));
      } catch (error) {
        context.addIssue({
          code: 'custom',
          message: `not the JSON expected: ${error instanceof Error ? error.message : error}`,
        });
        return z.NEVER;
      }
    });

/** `__metadata__` of a delta file. Values are strings in the file, as safetensors demands; objects are JSON text. */
export const deltaMetadataSchema = z.object({
  format: z.literal(DELTA_FORMAT, { error: `not a Signpost delta file (expected format "${DELTA_FORMAT}")` }),
  base: digestSchema,
  expert: z.string().min(1),
  method: z.string().min(1),
  parameters: jsonOf(z.record(z.string(), z.unknown())),
  /** Relative Frobenius error ‖Δ − Δ̂‖ / ‖Δ‖ by matrix. */
  errors: jsonOf(z.record(z.string(), z.number())),
  /** sha256 of the calibration rows, when there were any. */
  calibration: digestSchema.optional(),
  /** How the fine-tune's tokenizer differs from the base's, when it does. */
  tokenizer: jsonOf(tokenizerChangesSchema, MAX_TOKENIZER_CHANGES).optional(),
  source: digestSchema,
  packer: z.string().min(1),
});
export type DeltaMetadata = z.output<typeof deltaMetadataSchema>;

export interface PlaneLayout {
  readonly sign: TensorInfo;
  readonly rowScale: TensorInfo;
  readonly colScale?: TensorInfo;
}

/** What the file holds for one parameter. */
export interface ParamDeltaLayout {
  /** Stem in the file, e.g. `model.layers.3.mlp.up_proj`. */
  readonly stem: string;
  readonly planes: readonly PlaneLayout[];
  readonly exact?: TensorInfo;
  /** Of an exact difference in I8: one number a row. */
  readonly exactScale?: TensorInfo;
  /** Rows below the base's. */
  readonly added?: TensorInfo;
}

export interface DeltaLayout {
  readonly metadata: DeltaMetadata;
  /** In file order. */
  readonly params: readonly ParamDeltaLayout[];
  /** Rows that the expert adds to the embedding, and to the head if that isn't the embedding. */
  readonly addedRows: number;
}

/** The stem a checkpoint parameter has in delta files: its name without a final `.weight`. */
export function deltaStem(parameter: string): string {
  return parameter.endsWith('.weight') ? parameter.slice(0, -'.weight'.length) : parameter;
}

/** 32-bit sign words in one row of `inDim` signs. */
export function signWords(inDim: number): number {
  return Math.ceil(inDim / 32);
}

const TENSOR_NAME =
  /^(?<stem>.+)\.(?:(?<part>sign|row_scale|col_scale)\.(?<plane>\d)|(?<whole>delta|delta_scale|added))$/;
/** Parameters with a row for each token. */
const [EMBEDDING, HEAD] = ['model.embed_tokens', 'lm_head'];

/**
 * Groups a header's tensors by parameter and checks that each plane is whole, and that added rows are within bounds.
 *
 * @throws Problem naming the tensor that is unknown, missing, or of the wrong dtype.
 */
export function deltaLayout(header: SafetensorsHeader, where: string): DeltaLayout {
  const metadata = parseWith(deltaMetadataSchema, header.metadata, `${where}: metadata`);
  const found = new Map<string, Map<string, TensorInfo>>();
  for (const tensor of header.tensors) {
    const groups = TENSOR_NAME.exec(tensor.name)?.groups;
    const { stem } = groups ?? {};
    if (groups === undefined || stem === undefined)
      throw new Problem(`${where}: tensor ${tensor.name} is no part of a delta file`);
    const part = groups.whole ?? `${groups.part}.${groups.plane}`;
    const expected = dtypesOf(part);
    if (!expected.includes(tensor.dtype))
      throw new Problem(`${where}: tensor ${tensor.name} is ${tensor.dtype}, expected ${expected.join(' or ')}`);
    const parts = found.get(stem) ?? new Map<string, TensorInfo>();
    found.set(stem, parts.set(part, tensor));
  }
  const params = [...found].map(([stem, parts]) => paramLayout(stem, parts, where));
  return { metadata, params, addedRows: addedRowsOf(params, where) };
}

function addedRowsOf(params: readonly ParamDeltaLayout[], where: string): number {
  const rows = new Map<string, number>();
  for (const { stem, added } of params) {
    if (added === undefined) continue;
    if (stem !== EMBEDDING && stem !== HEAD)
      throw new Problem(`${where}: tensor ${added.name}: only ${EMBEDDING} and ${HEAD} can have added rows`);
    const [count = 0] = added.shape;
    if (added.shape.length !== 2 || count < 1 || count > MAX_ADDED_ROWS)
      throw new Problem(`${where}: tensor ${added.name} is [${added.shape}]; 1 to ${MAX_ADDED_ROWS} rows may be added`);
    rows.set(stem, count);
  }
  const [embedding = 0, head] = [rows.get(EMBEDDING), rows.get(HEAD)];
  if (head !== undefined && head !== embedding)
    throw new Problem(`${where}: ${head} rows are added to ${HEAD}, and ${embedding} to ${EMBEDDING}`);
  return embedding;
}

function dtypesOf(part: string): readonly Dtype[] {
  if (part === 'delta') return ['BF16', 'I8'];
  if (part === 'added') return ['BF16'];
  return part.startsWith('sign') ? ['U32'] : ['F32'];
}

function paramLayout(stem: string, parts: Map<string, TensorInfo>, where: string): ParamDeltaLayout {
  const planes: PlaneLayout[] = [];
  for (let p = 0; p < MAX_PLANES; p++) {
    const sign = parts.get(`sign.${p}`);
    const rowScale = parts.get(`row_scale.${p}`);
    const colScale = parts.get(`col_scale.${p}`);
    if (sign === undefined && rowScale === undefined && colScale === undefined) continue;
    if (sign === undefined || rowScale === undefined)
      throw new Problem(`${where}: ${stem} plane ${p} lacks its ${sign === undefined ? 'sign' : 'row_scale'} tensor`);
    if (planes.length !== p) throw new Problem(`${where}: ${stem} has plane ${p} but not plane ${planes.length}`);
    planes.push(colScale === undefined ? { sign, rowScale } : { sign, rowScale, colScale });
  }
  const [exact, exactScale, added] = [parts.get('delta'), parts.get('delta_scale'), parts.get('added')];
  if ((exact?.dtype === 'I8') !== (exactScale !== undefined))
    throw new Problem(`${where}: ${stem}: an exact difference in I8 and its delta_scale go together`);
  const used = planes.reduce(
    (count, plane) => count + (plane.colScale === undefined ? 2 : 3),
    [exact, exactScale, added].filter((tensor) => tensor !== undefined).length,
  );
  if (used !== parts.size) throw new Problem(`${where}: ${stem} has more than ${MAX_PLANES} planes`);
  return {
    stem,
    planes,
    ...(exact === undefined ? {} : { exact }),
    ...(exactScale === undefined ? {} : { exactScale }),
    ...(added === undefined ? {} : { added }),
  };
}

/**
 * Checks one parameter's layout against the base parameter's shape.
 *
 * @throws Problem with the tensor, the shape it has and the shape expected.
 */
export function checkParamLayout(param: ParamDeltaLayout, shape: readonly number[], where: string): void {
  const expect = (tensor: TensorInfo, ...allowed: readonly (readonly number[])[]) => {
    if (allowed.some((want) => want.length === tensor.shape.length && want.every((dim, i) => dim === tensor.shape[i])))
      return;
    throw new Problem(
      `${where}: tensor ${tensor.name} is [${tensor.shape}], the base needs ${allowed.map((want) => `[${want}]`).join(' or ')}`,
    );
  };
  const [out, inDim] = shape;
  if (param.planes.length > 0 && (out === undefined || inDim === undefined || shape.length !== 2)) {
    throw new Problem(`${where}: ${param.stem} has sign planes, but the base's is a vector [${shape}]`);
  }
  for (const plane of param.planes) {
    expect(plane.sign, [out ?? 0, signWords(inDim ?? 0)]);
    expect(plane.rowScale, [out ?? 0], [1]);
    if (plane.colScale !== undefined) expect(plane.colScale, [inDim ?? 0]);
  }
  if (param.exact !== undefined) expect(param.exact, shape);
  if (param.exactScale !== undefined) expect(param.exactScale, [shape.length === 1 ? 1 : (out ?? 0)]);
  if (param.added !== undefined) expect(param.added, [param.added.shape[0] ?? 0, inDim ?? 0]);
}

/**
 * Checks that a delta was made for a base: its digest, every parameter's shape, and that each token it adds has a row.
 *
 * @throws Problem naming the digests, or the tensor or token that doesn't fit.
 */
export function checkDeltaFits(
  { metadata, params, addedRows }: DeltaLayout,
  base: Digest,
  baseParams: readonly { readonly name: string; readonly shape: readonly number[] }[],
  where: string,
): void {
  if (metadata.base !== base)
    throw new Problem(`${where} is a delta for base ${metadata.base}, this base is ${base}; pack it against this one`);
  const shapes = new Map(baseParams.map(({ name, shape }) => [deltaStem(name), shape]));
  for (const param of params) {
    const shape = shapes.get(param.stem);
    if (shape === undefined) throw new Problem(`${where}: the base has no parameter ${param.stem}`);
    checkParamLayout(param, shape, where);
  }
  const hasRows = (stem: string) => params.some((param) => param.stem === stem && param.added !== undefined);
  if (shapes.has(HEAD) && hasRows(HEAD) !== hasRows(EMBEDDING))
    throw new Problem(`${where}: rows are added to ${EMBEDDING} alone, and the base has a head of its own`);
  const tokens = (shapes.get(EMBEDDING)?.[0] ?? 0) + addedRows;
  const lost = metadata.tokenizer?.added_tokens?.find(({ id }) => id >= tokens);
  if (lost !== undefined)
    throw new Problem(
      `${where}: token ${JSON.stringify(lost.content)} has id ${lost.id}, and there are ${tokens} rows`,
    );
}
