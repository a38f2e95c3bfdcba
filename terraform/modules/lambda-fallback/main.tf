locals {
  full_name    = "${var.prefix}-${var.name}"
  tags         = merge(var.tags, { "signpost:region" = var.name })
  store_parts  = regex("^s3://([^/]+)(?:/(.*?))?/?$", var.store)
  store_bucket = "arn:aws:s3:::${local.store_parts[0]}"
  store_prefix = local.store_parts[1] == null || local.store_parts[1] == "" ? "" : "${local.store_parts[1]}/"
  # AWS gives one for each 1,769 MB.
  threads = max(1, floor(var.memory_mb / 1769))
}

resource "aws_cloudwatch_log_group" "function" {
  region            = var.aws_region
  name              = "/aws/lambda/${local.full_name}"
  retention_in_days = var.log_days
  tags              = local.tags
}

data "aws_iam_policy_document" "assume" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["lambda.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "function" {
  name               = "${local.full_name}-function"
  assume_role_policy = data.aws_iam_policy_document.assume.json
  tags               = local.tags
}

data "aws_iam_policy_document" "function" {
  statement {
    sid       = "Objects"
    actions   = ["s3:GetObject"]
    resources = ["${local.store_bucket}/${local.store_prefix}*"]
  }

  statement {
    # Without it, S3 answers 403 for what is missing.
    sid       = "Missing"
    actions   = ["s3:ListBucket"]
    resources = [local.store_bucket]
  }

  statement {
    sid       = "Logs"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.function.arn}:*"]
  }
}

resource "aws_iam_role_policy" "function" {
  name   = "run"
  role   = aws_iam_role.function.id
  policy = data.aws_iam_policy_document.function.json
}

# It is invoked by InvokeWithResponseStream, which streams whatever the function's settings: no URL is needed, so none is there.
resource "aws_lambda_function" "region" {
  region                         = var.aws_region
  function_name                  = local.full_name
  description                    = "Signpost region ${var.name}"
  role                           = aws_iam_role.function.arn
  package_type                   = "Image"
  image_uri                      = var.image
  architectures                  = [var.architecture]
  memory_size                    = var.memory_mb
  timeout                        = var.timeout_seconds
  reserved_concurrent_executions = var.max_concurrency
  # Versions, for the alias.
  publish = true
  tags    = local.tags

  ephemeral_storage {
    size = var.disk_mb
  }

  logging_config {
    log_format = "Text"
    log_group  = aws_cloudwatch_log_group.function.name
  }

  environment {
    # Encrypted at rest; who may read the function's settings reads them.
    variables = merge(
      {
        SIGNPOST_BASE             = var.base
        SIGNPOST_STORE            = var.store
        SIGNPOST_REGION           = var.name
        SIGNPOST_REGION_SECRET    = var.region_secret
        SIGNPOST_THREADS          = tostring(local.threads)
        SIGNPOST_BASE_CACHE       = "/tmp/bases"
        SIGNPOST_DISK_CACHE       = "/tmp/experts"
        SIGNPOST_DISK_CACHE_BYTES = tostring(floor(var.disk_mb * (startswith(var.base, "store:") ? 0.2 : 0.8)) * 1000000)
      },
      var.environment,
    )
  }

  depends_on = [aws_iam_role_policy.function]
}

# What the edge calls: a new version takes over at once, and going back is one apply.
resource "aws_lambda_alias" "live" {
  region           = var.aws_region
  name             = "live"
  function_name    = aws_lambda_function.region.function_name
  function_version = aws_lambda_function.region.version
}

# The edge's key. It invokes this alias, and nothing else: lambda:InvokeFunction is what InvokeWithResponseStream asks for.
resource "aws_iam_user" "edge" {
  name = "${local.full_name}-edge"
  tags = local.tags
}

data "aws_iam_policy_document" "edge" {
  statement {
    sid       = "Invoke"
    actions   = ["lambda:InvokeFunction"]
    resources = [aws_lambda_alias.live.arn]
  }
}

resource "aws_iam_user_policy" "edge" {
  name   = "invoke"
  user   = aws_iam_user.edge.name
  policy = data.aws_iam_policy_document.edge.json
}

resource "aws_iam_access_key" "edge" {
  user = aws_iam_user.edge.name
}

resource "aws_cloudwatch_metric_alarm" "errors" {
  region              = var.aws_region
  alarm_name          = "${local.full_name}-errors"
  alarm_description   = "More than five invocations failed in five minutes."
  namespace           = "AWS/Lambda"
  metric_name         = "Errors"
  dimensions          = { FunctionName = aws_lambda_function.region.function_name }
  statistic           = "Sum"
  comparison_operator = "GreaterThanThreshold"
  threshold           = 5
  period              = 300
  evaluation_periods  = 1
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topic_arns
  ok_actions          = var.alarm_topic_arns
  tags                = local.tags
}

resource "aws_cloudwatch_metric_alarm" "throttles" {
  region              = var.aws_region
  alarm_name          = "${local.full_name}-throttles"
  alarm_description   = "Requests are turned away at max_concurrency."
  namespace           = "AWS/Lambda"
  metric_name         = "Throttles"
  dimensions          = { FunctionName = aws_lambda_function.region.function_name }
  statistic           = "Sum"
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  period              = 300
  evaluation_periods  = 1
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topic_arns
  ok_actions          = var.alarm_topic_arns
  tags                = local.tags
}
