data "aws_iam_policy_document" "tasks_assume" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ecs-tasks.amazonaws.com"]
    }
  }
}

# What starts a task: it fetches the image and the secrets.
resource "aws_iam_role" "execution" {
  name               = "${local.full_name}-execution"
  assume_role_policy = data.aws_iam_policy_document.tasks_assume.json
  tags               = local.tags
}

locals {
  # ACCOUNT.dkr.ecr.REGION.amazonaws.com/NAME:TAG; nothing to allow for an image from elsewhere.
  ecr_image = regexall("^(\\d+)\\.dkr\\.ecr\\.([a-z0-9-]+)\\.amazonaws\\.com/([^:@]+)", var.image)
}

data "aws_iam_policy_document" "execution" {
  statement {
    sid       = "Secrets"
    actions   = ["secretsmanager:GetSecretValue"]
    resources = [for secret in aws_secretsmanager_secret.region : secret.arn]
  }

  statement {
    sid       = "Logs"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.region.arn}:*"]
  }

  dynamic "statement" {
    for_each = local.ecr_image

    content {
      sid       = "Image"
      actions   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
      resources = ["arn:aws:ecr:${statement.value[1]}:${statement.value[0]}:repository/${statement.value[2]}"]
    }
  }

  dynamic "statement" {
    for_each = local.ecr_image

    content {
      sid     = "ImageLogin"
      actions = ["ecr:GetAuthorizationToken"]
      # AWS knows this one for all repositories only; it opens none.
      resources = ["*"]
    }
  }
}

resource "aws_iam_role_policy" "execution" {
  name   = "start"
  role   = aws_iam_role.execution.id
  policy = data.aws_iam_policy_document.execution.json
}

# What runs in it.
resource "aws_iam_role" "task" {
  name               = "${local.full_name}-task"
  assume_role_policy = data.aws_iam_policy_document.tasks_assume.json
  tags               = local.tags
}

locals {
  store_parts  = regex("^s3://([^/]+)(?:/(.*?))?/?$", var.store)
  store_bucket = "arn:aws:s3:::${local.store_parts[0]}"
  store_prefix = local.store_parts[1] == null || local.store_parts[1] == "" ? "" : "${local.store_parts[1]}/"
}

data "aws_iam_policy_document" "task" {
  statement {
    sid       = "Metrics"
    actions   = ["logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"]
    resources = [aws_cloudwatch_log_group.region.arn, "${aws_cloudwatch_log_group.region.arn}:*"]
  }

  dynamic "statement" {
    for_each = local.reads_r2 ? [] : [local.store_bucket]

    content {
      sid       = "Objects"
      actions   = ["s3:GetObject"]
      resources = ["${statement.value}/${local.store_prefix}*"]
    }
  }

  dynamic "statement" {
    for_each = local.reads_r2 ? [] : [local.store_bucket]

    content {
      # Without it, S3 answers 403 for what is missing.
      sid       = "Missing"
      actions   = ["s3:ListBucket"]
      resources = [statement.value]
    }
  }
}

resource "aws_iam_role_policy" "task" {
  name   = "run"
  role   = aws_iam_role.task.id
  policy = data.aws_iam_policy_document.task.json
}
