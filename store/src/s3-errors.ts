/**
 * What went wrong in S3, as something a user can act on.
 */
import { S3ServiceException } from '@aws-sdk/client-s3';
import { Problem } from '@signpost/contracts';
import { BrokenAnswer } from './retry.ts';

export function isMissing(error: unknown): boolean {
  return error instanceof S3ServiceException && (error.name === 'NoSuchKey' || error.name === 'NotFound');
}

/** Whether a range begins behind the object's end. */
export function isOutside(error: unknown): boolean {
  return error instanceof S3ServiceException && error.$metadata.httpStatusCode === 416;
}

/** Whether a conditional write lost: 412, or 409 where another write was under way. */
export function isConflict(error: unknown): boolean {
  return (
    error instanceof S3ServiceException &&
    (error.$metadata.httpStatusCode === 412 || error.name === 'ConditionalRequestConflict')
  );
}

/** Whether a multipart upload was completed or aborted by somebody else. */
export function isUploadGone(error: unknown): boolean {
  return error instanceof S3ServiceException && error.name === 'NoSuchUpload';
}

/**
 * `where` is the bucket or object, `action` what was tried: "read", "write". What isn't the SDK's is returned as it is: a caller's stream
 * that failed has a message of its own.
 */
export function s3Problem(error: unknown, where: string, action: string): unknown {
  const isOurs = error instanceof BrokenAnswer;
  if (!(error instanceof Error) || !('$metadata' in error || isOurs || isSettingMissing(error))) return error;
  return new Problem(`can't ${action} ${where} (${error.name}: ${error.message}); ${advice(error)}`, { cause: error });
}

/** Thrown before there is a request. */
function isSettingMissing(error: Error): boolean {
  return error.name === 'CredentialsProviderError' || isRegionMissing(error);
}

function isRegionMissing({ message }: Error): boolean {
  return message.includes('Region is missing');
}

function advice(error: Error): string {
  if (error instanceof S3ServiceException) {
    if (error.name === 'NoSuchBucket')
      return "check the bucket's name, and AWS_REGION and AWS_ENDPOINT_URL_S3, which say where it is looked for";
    switch (error.$metadata.httpStatusCode) {
      case 301:
      case 307:
        return 'the bucket is in another region: set AWS_REGION to it';
      case 401:
      case 403:
        return 'check the credentials, and that their policy allows s3:GetObject, PutObject, DeleteObject, ListBucket, ListBucketMultipartUploads, ListMultipartUploadParts and AbortMultipartUpload there';
      default:
        return 'the store answered but refused; its message says why';
    }
  }
  if (isRegionMissing(error)) return 'set AWS_REGION ("auto" for R2, any for most servers of your own)';
  if (error.name === 'CredentialsProviderError')
    return 'set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or run where a role is given';
  return 'check the network, and AWS_ENDPOINT_URL_S3 where the store is not AWS';
}
