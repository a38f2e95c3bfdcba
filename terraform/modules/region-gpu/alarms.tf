# What somebody should look at. Rules for Prometheus beside these, for who scrapes /metrics, are in docs/operations.md.
resource "aws_cloudwatch_metric_alarm" "engine_down" {
  region              = var.aws_region
  alarm_name          = "${local.full_name}-engine-down"
  alarm_description   = "A container's engine has ended; ECS replaces it once its health check has failed three times."
  namespace           = local.metric_namespace
  metric_name         = "signpost_engine_up"
  dimensions          = { region = var.name }
  statistic           = "Minimum"
  comparison_operator = "LessThanThreshold"
  threshold           = 1
  period              = 60
  evaluation_periods  = 2
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topic_arns
  ok_actions          = var.alarm_topic_arns
  tags                = local.tags
}

resource "aws_cloudwatch_metric_alarm" "queue" {
  region              = var.aws_region
  alarm_name          = "${local.full_name}-queue"
  alarm_description   = "Requests wait although the region scales: tasks.max may be too low, or AWS has no instance to give."
  namespace           = local.metric_namespace
  metric_name         = local.metrics.waiting
  dimensions          = { region = var.name }
  statistic           = "Average"
  comparison_operator = "GreaterThanThreshold"
  threshold           = var.requests_per_task
  period              = 60
  evaluation_periods  = 10
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topic_arns
  ok_actions          = var.alarm_topic_arns
  tags                = local.tags
}

# Where at least one container should be there at all times, silence is one, too.
resource "aws_cloudwatch_metric_alarm" "silent" {
  count = var.tasks.min > 0 && length(var.schedules) == 0 ? 1 : 0

  region              = var.aws_region
  alarm_name          = "${local.full_name}-silent"
  alarm_description   = "No container has told its metrics for a quarter of an hour."
  namespace           = local.metric_namespace
  metric_name         = "signpost_engine_up"
  dimensions          = { region = var.name }
  statistic           = "SampleCount"
  comparison_operator = "LessThanThreshold"
  threshold           = 1
  period              = 300
  evaluation_periods  = 3
  treat_missing_data  = "breaching"
  alarm_actions       = var.alarm_topic_arns
  ok_actions          = var.alarm_topic_arns
  tags                = local.tags
}

# pino's levels: 50 is an error, 60 one that ended the process.
resource "aws_cloudwatch_log_metric_filter" "errors" {
  region         = var.aws_region
  name           = "${local.full_name}-errors"
  log_group_name = aws_cloudwatch_log_group.region.name
  pattern        = "{ $.level >= 50 }"

  metric_transformation {
    namespace     = local.metric_namespace
    name          = "errors-${var.name}"
    value         = "1"
    default_value = "0"
  }
}

resource "aws_cloudwatch_metric_alarm" "errors" {
  region              = var.aws_region
  alarm_name          = "${local.full_name}-errors"
  alarm_description   = "More than five errors in a container's log in five minutes."
  namespace           = local.metric_namespace
  metric_name         = "errors-${var.name}"
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
