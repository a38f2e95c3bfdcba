data "aws_caller_identity" "current" {}

# Near each region, so that paging an expert in costs neither NAT nor an ocean. What the packer publishes is copied here; see README.md.
resource "aws_s3_bucket" "mirror" {
  for_each = var.mirror_regions

  region = each.key
  # The account's id, since names are shared by all of AWS.
  bucket = "${var.name}-artifacts-${data.aws_caller_identity.current.account_id}-${each.key}"
  tags   = var.tags
}

resource "aws_s3_bucket_public_access_block" "mirror" {
  for_each = aws_s3_bucket.mirror

  region                  = each.key
  bucket                  = each.value.bucket
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "mirror" {
  for_each = aws_s3_bucket.mirror

  region = each.key
  bucket = each.value.bucket

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

# Not with KMS: an ETag would be no MD5 then, and an interrupted publish would begin anew.
resource "aws_s3_bucket_server_side_encryption_configuration" "mirror" {
  for_each = aws_s3_bucket.mirror

  region = each.key
  bucket = each.value.bucket

  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

resource "aws_s3_bucket_versioning" "mirror" {
  for_each = aws_s3_bucket.mirror

  region = each.key
  bucket = each.value.bucket

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "mirror" {
  for_each = aws_s3_bucket_versioning.mirror

  region = each.key
  bucket = each.value.bucket

  rule {
    id     = "unfinished-uploads"
    status = "Enabled"

    filter {
      prefix = ""
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = var.unfinished_upload_days
    }
  }

  rule {
    id     = "old-versions"
    status = "Enabled"

    filter {
      prefix = ""
    }

    noncurrent_version_expiration {
      noncurrent_days = var.old_version_days
    }
  }
}

data "aws_iam_policy_document" "encrypted_only" {
  for_each = aws_s3_bucket.mirror

  statement {
    sid       = "EncryptedConnectionsOnly"
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [each.value.arn, "${each.value.arn}/*"]

    principals {
      type        = "*"
      identifiers = ["*"]
    }

    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }
}

resource "aws_s3_bucket_policy" "mirror" {
  for_each = aws_s3_bucket.mirror

  region = each.key
  bucket = each.value.bucket
  policy = data.aws_iam_policy_document.encrypted_only[each.key].json
}

data "aws_iam_policy_document" "mirror_write" {
  count = length(var.mirror_regions) > 0 ? 1 : 0

  statement {
    sid       = "Objects"
    actions   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:ListMultipartUploadParts", "s3:AbortMultipartUpload"]
    resources = [for bucket in aws_s3_bucket.mirror : "${bucket.arn}/*"]
  }

  statement {
    sid       = "Lists"
    actions   = ["s3:ListBucket", "s3:ListBucketMultipartUploads"]
    resources = [for bucket in aws_s3_bucket.mirror : bucket.arn]
  }
}

# For whoever copies to the mirrors; regions get their own, to read one.
resource "aws_iam_policy" "mirror_write" {
  count = length(var.mirror_regions) > 0 ? 1 : 0

  name        = "${var.name}-mirror-write"
  description = "Copy to the mirrors of ${var.name}'s artifacts."
  policy      = data.aws_iam_policy_document.mirror_write[0].json
  tags        = var.tags
}
