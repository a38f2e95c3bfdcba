locals {
  # Names of secrets in the Worker.
  secret_prefix = upper(replace(var.name, "-", "_"))
}

output "region" {
  description = "The region's entry in the edge's `REGIONS`."
  value = {
    name                  = var.name
    kind                  = "lambda"
    role                  = var.role
    function              = aws_lambda_function.region.function_name
    qualifier             = aws_lambda_alias.live.name
    awsRegion             = var.aws_region
    accessKeyIdSecret     = "AWS_KEY_ID_${local.secret_prefix}"
    secretAccessKeySecret = "AWS_SECRET_${local.secret_prefix}"
    coldStartMs           = var.cold_start_ms
    continent             = var.continent
  }
}

output "edge_secrets" {
  description = "Secrets that the edge needs for this region, by the names that `region` has."
  sensitive   = true
  value = {
    "AWS_KEY_ID_${local.secret_prefix}" = aws_iam_access_key.edge.id
    "AWS_SECRET_${local.secret_prefix}" = aws_iam_access_key.edge.secret
  }
}

output "function_arn" {
  description = "ARN of the function."
  value       = aws_lambda_function.region.arn
}

output "log_group" {
  description = "Log group of the function."
  value       = aws_cloudwatch_log_group.function.name
}
