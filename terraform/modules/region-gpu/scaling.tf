resource "aws_appautoscaling_target" "tasks" {
  region             = var.aws_region
  service_namespace  = "ecs"
  resource_id        = "service/${module.cluster.name}/${aws_ecs_service.region.name}"
  scalable_dimension = "ecs:service:DesiredCount"
  min_capacity       = var.tasks.min
  max_capacity       = var.tasks.max
  tags               = local.tags
}

locals {
  # Metrics of all tasks together: each tells its own every scrape_seconds, under the region's name.
  metrics = {
    running = "vllm:num_requests_running"
    waiting = "vllm:num_requests_waiting"
  }
  samples_per_minute = 60 / local.scrape_seconds
}

# Out: by the requests of a task on average. Only those that wait would call for more when it is too late, and for fewer in the midst of work.
resource "aws_appautoscaling_policy" "out" {
  region             = var.aws_region
  name               = "requests"
  policy_type        = "TargetTrackingScaling"
  service_namespace  = aws_appautoscaling_target.tasks.service_namespace
  resource_id        = aws_appautoscaling_target.tasks.resource_id
  scalable_dimension = aws_appautoscaling_target.tasks.scalable_dimension

  target_tracking_scaling_policy_configuration {
    target_value = var.requests_per_task
    # A region at little load would go to none, requests and all; going in is below.
    disable_scale_in   = true
    scale_out_cooldown = 120

    customized_metric_specification {
      dynamic "metrics" {
        for_each = local.metrics

        content {
          id          = metrics.key
          return_data = false

          metric_stat {
            stat = "Average"

            metric {
              namespace   = local.metric_namespace
              metric_name = metrics.value

              dimensions {
                name  = "region"
                value = var.name
              }
            }
          }
        }
      }

      metrics {
        id          = "load"
        label       = "Requests of a task"
        expression  = "running + waiting"
        return_data = true
      }
    }
  }
}

# In: one task less while two or more have little to do.
resource "aws_cloudwatch_metric_alarm" "little_load" {
  region              = var.aws_region
  alarm_name          = "${local.full_name}-little-load"
  alarm_description   = "Scaling: more than one container, and fewer than a third of requests_per_task each."
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  evaluation_periods  = 10
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_appautoscaling_policy.in.arn]
  tags                = local.tags

  dynamic "metric_query" {
    for_each = local.metrics

    content {
      id = metric_query.key

      metric {
        namespace   = local.metric_namespace
        metric_name = metric_query.value
        period      = 60
        stat        = "Average"
        dimensions  = { region = var.name }
      }
    }
  }

  metric_query {
    id = "samples"

    metric {
      namespace   = local.metric_namespace
      metric_name = local.metrics.running
      period      = 60
      stat        = "SampleCount"
      dimensions  = { region = var.name }
    }
  }

  metric_query {
    id          = "little"
    label       = "Has little to do"
    expression  = "IF(samples > ${1.5 * local.samples_per_minute} AND running + waiting < ${var.requests_per_task / 3}, 1, 0)"
    return_data = true
  }
}

resource "aws_appautoscaling_policy" "in" {
  region             = var.aws_region
  name               = "little-load"
  policy_type        = "StepScaling"
  service_namespace  = aws_appautoscaling_target.tasks.service_namespace
  resource_id        = aws_appautoscaling_target.tasks.resource_id
  scalable_dimension = aws_appautoscaling_target.tasks.scalable_dimension

  step_scaling_policy_configuration {
    adjustment_type = "ChangeInCapacity"
    cooldown        = 300

    step_adjustment {
      metric_interval_lower_bound = 0
      scaling_adjustment          = -1
    }
  }
}

# To nothing, where it may: no request at all for a while.
resource "aws_cloudwatch_metric_alarm" "idle" {
  count = var.tasks.min == 0 ? 1 : 0

  region              = var.aws_region
  alarm_name          = "${local.full_name}-idle"
  alarm_description   = "Scaling: no request for ${var.idle_minutes} minutes."
  comparison_operator = "LessThanOrEqualToThreshold"
  threshold           = 0
  evaluation_periods  = var.idle_minutes
  # A region that runs nothing, or has just begun to, tells nothing.
  treat_missing_data = "notBreaching"
  alarm_actions      = [aws_appautoscaling_policy.to_zero[0].arn]
  tags               = local.tags

  dynamic "metric_query" {
    for_each = local.metrics

    content {
      id = metric_query.key

      metric {
        namespace   = local.metric_namespace
        metric_name = metric_query.value
        period      = 60
        stat        = "Maximum"
        dimensions  = { region = var.name }
      }
    }
  }

  metric_query {
    id          = "requests"
    label       = "Requests"
    expression  = "running + waiting"
    return_data = true
  }
}

resource "aws_appautoscaling_policy" "to_zero" {
  count = var.tasks.min == 0 ? 1 : 0

  region             = var.aws_region
  name               = "idle"
  policy_type        = "StepScaling"
  service_namespace  = aws_appautoscaling_target.tasks.service_namespace
  resource_id        = aws_appautoscaling_target.tasks.resource_id
  scalable_dimension = aws_appautoscaling_target.tasks.scalable_dimension

  step_scaling_policy_configuration {
    adjustment_type = "ExactCapacity"

    step_adjustment {
      metric_interval_upper_bound = 0
      scaling_adjustment          = 0
    }
  }
}

resource "aws_appautoscaling_scheduled_action" "by_time" {
  for_each = var.schedules

  region             = var.aws_region
  name               = each.key
  service_namespace  = aws_appautoscaling_target.tasks.service_namespace
  resource_id        = aws_appautoscaling_target.tasks.resource_id
  scalable_dimension = aws_appautoscaling_target.tasks.scalable_dimension
  schedule           = "cron(${each.value.cron})"
  timezone           = each.value.timezone

  scalable_target_action {
    min_capacity = each.value.min
    max_capacity = each.value.max
  }
}
