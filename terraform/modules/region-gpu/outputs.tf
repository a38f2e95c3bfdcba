locals {
  # A secret's name in the Worker.
  wake_secret = "WAKE_KEY_${upper(replace(var.name, "-", "_"))}"
}

output "region" {
  description = "The region's entry in the edge's `REGIONS`."
  value = merge(
    { for name, value in var.place : name => value if value != null },
    {
      name = var.name
      url  = "https://${var.domain.hostname}"
    },
    var.tasks.min > 0 && length(var.schedules) == 0 ? {} : {
      wake = {
        url     = "${aws_apigatewayv2_api.wake.api_endpoint}/wake"
        secret  = local.wake_secret
        usualMs = var.usual_start_ms
      }
    },
  )
}

output "edge_secrets" {
  description = "Secrets that the edge needs for this region, by the names that `region` has."
  value       = { (local.wake_secret) = random_password.own["wake"].result }
  sensitive   = true
}

output "admin_key" {
  description = "Opens the region's admin API."
  value       = random_password.own["admin"].result
  sensitive   = true
}

output "metrics_key" {
  description = "Key that the region's `/metrics` is read with."
  value       = random_password.own["metrics"].result
  sensitive   = true
}

output "cluster" {
  description = "The ECS cluster: `name` and `arn`."
  value = {
    name = module.cluster.name
    arn  = module.cluster.arn
  }
}

output "service" {
  description = "The ECS service's name."
  value       = aws_ecs_service.region.name
}

output "log_group" {
  description = "Log group of the containers."
  value       = aws_cloudwatch_log_group.region.name
}
