/**
 * What a published base is made of: its checkpoint's files, each an object of its own, with a hash for every chunk. Regions fetch them by it.
 *
 * The catalogue has the manifest's digest, and so its signature covers every byte.
 */
import { z } from 'zod';
import { chunkCount } from './catalogue.ts';
import { digestSchema } from './digest.ts';

export const BASES_PREFIX = 'bases/';

/** Bytes of the chunks that a base's files are hashed in, and fetched. */
export const BASE_CHUNK_BYTES = 8 * 2 ** 20;

/** They become names in a folder. */
const fileName = z.string().regex(/^\w[\w.-]{0,254}$/, 'expected a file name: letters, digits, "_", ".", "-"');

const fileSchema = z
  .strictObject({
    name: fileName,
    /** Object key in the store. */
    key: z.string().min(1),
    bytes: z.number().int().nonnegative(),
    sha256: digestSchema,
    chunkBytes: z.number().int().positive(),
    chunks: z.array(digestSchema),
  })
  .superRefine(({ bytes, chunkBytes, chunks }, context) => {
    const count = chunkCount(bytes, chunkBytes);
    if (chunks.length !== count)
      context.addIssue({
        code: 'custom',
        path: ['chunks'],
        message: `expected the hashes of ${count} chunks, found ${chunks.length}`,
      });
  });
export type BaseFile = z.output<typeof fileSchema>;

export const baseManifestSchema = z.strictObject({
  format: z.literal(1),
  base: digestSchema,
  files: z
    .array(fileSchema)
    .min(1)
    .refine((files) => new Set(files.map(({ name }) => name)).size === files.length, 'a file is listed twice'),
});
export type BaseManifest = z.output<typeof baseManifestSchema>;
