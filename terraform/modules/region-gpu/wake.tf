# The hook that the edge calls while the region runs nothing (docs/backends.md, "A region at zero").
data "archive_file" "wake" {
  type        = "zip"
  source_dir  = "${path.module}/wake"
  output_path = "${path.root}/.terraform/${local.full_name}-wake.zip"
}

resource "aws_cloudwatch_log_group" "wake" {
  region            = var.aws_region
  name              = "/aws/lambda/${local.full_name}-wake"
  retention_in_days = var.log_days
  tags              = local.tags
}

data "aws_iam_policy_document" "lambda_assume" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["lambda.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "wake" {
  name               = "${local.full_name}-wake"
  assume_role_policy = data.aws_iam_policy_document.lambda_assume.json
  tags               = local.tags
}

data "aws_iam_policy_document" "wake" {
  statement {
    sid       = "Service"
    actions   = ["ecs:DescribeServices", "ecs:UpdateService"]
    resources = [aws_ecs_service.region.arn]
  }

  statement {
    sid       = "Logs"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.wake.arn}:*"]
  }
}

resource "aws_iam_role_policy" "wake" {
  name   = "wake"
  role   = aws_iam_role.wake.id
  policy = data.aws_iam_policy_document.wake.json
}

resource "aws_lambda_function" "wake" {
  region           = var.aws_region
  function_name    = "${local.full_name}-wake"
  role             = aws_iam_role.wake.arn
  runtime          = "nodejs22.x"
  architectures    = ["arm64"]
  handler          = "index.handler"
  filename         = data.archive_file.wake.output_path
  source_code_hash = data.archive_file.wake.output_base64sha256
  memory_size      = 256
  # Within the ten seconds that the edge waits.
  timeout = 8
  tags    = local.tags

  environment {
    variables = {
      CLUSTER = module.cluster.arn
      SERVICE = aws_ecs_service.region.name
      # Not the key: who may read the function's settings can't call it.
      KEY_SHA256 = nonsensitive(sha256(random_password.own["wake"].result))
    }
  }

  depends_on = [aws_iam_role_policy.wake, aws_cloudwatch_log_group.wake]
}

resource "aws_apigatewayv2_api" "wake" {
  region        = var.aws_region
  name          = "${local.full_name}-wake"
  protocol_type = "HTTP"
  tags          = local.tags
}

resource "aws_apigatewayv2_integration" "wake" {
  region                 = var.aws_region
  api_id                 = aws_apigatewayv2_api.wake.id
  integration_type       = "AWS_PROXY"
  integration_uri        = aws_lambda_function.wake.invoke_arn
  payload_format_version = "2.0"
}

resource "aws_apigatewayv2_route" "wake" {
  region    = var.aws_region
  api_id    = aws_apigatewayv2_api.wake.id
  route_key = "POST /wake"
  target    = "integrations/${aws_apigatewayv2_integration.wake.id}"
}

resource "aws_apigatewayv2_stage" "wake" {
  region      = var.aws_region
  api_id      = aws_apigatewayv2_api.wake.id
  name        = "$default"
  auto_deploy = true
  tags        = local.tags

  # The edge calls once a minute; strangers who guess keys get no further, nor cost more.
  default_route_settings {
    throttling_burst_limit = 5
    throttling_rate_limit  = 1
  }
}

resource "aws_lambda_permission" "wake" {
  region        = var.aws_region
  statement_id  = "gateway"
  action        = "lambda:InvokeFunction"
  function_name = aws_lambda_function.wake.function_name
  principal     = "apigateway.amazonaws.com"
  source_arn    = "${aws_apigatewayv2_api.wake.execution_arn}/*/POST/wake"
}
