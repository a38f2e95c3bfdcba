resource "aws_cloudwatch_log_group" "region" {
  region            = var.aws_region
  name              = "/${var.prefix}/${var.name}"
  retention_in_days = var.log_days
  tags              = local.tags
}

locals {
  environment = merge(
    {
      SIGNPOST_BASE        = var.base
      SIGNPOST_STORE       = var.store
      SIGNPOST_REGION      = var.name
      SIGNPOST_DEVICE      = var.gpus > 0 ? "webgpu" : "cpu"
      SIGNPOST_HOST        = "0.0.0.0"
      SIGNPOST_PORT        = tostring(local.port)
      SIGNPOST_EDGE_URL    = var.edge_url
      SIGNPOST_DRAIN_LIMIT = tostring(var.drain_seconds)
      SIGNPOST_BASE_CACHE  = "/cache/bases"
      SIGNPOST_DISK_CACHE  = "/cache/experts"
    },
    { AWS_REGION = local.reads_r2 ? "auto" : var.aws_region },
    { for endpoint in local.reads_r2 ? [nonsensitive(var.store_r2.endpoint)] : [] : "AWS_ENDPOINT_URL_S3" => endpoint },
    var.environment,
  )

  # Variables that hold secrets, by container.
  secrets_of = {
    backend     = setsubtract(local.secret_names, ["TUNNEL_TOKEN"])
    cloudflared = ["TUNNEL_TOKEN"]
    collector   = ["SIGNPOST_METRICS_KEY"]
  }

  log_options = {
    awslogs-group  = aws_cloudwatch_log_group.region.name
    awslogs-region = var.aws_region
  }

  # Files are written to /cache alone, which is on the instance's volume and goes with it. The image gives it to its user (VOLUME).
  backend = {
    name                   = "backend"
    image                  = var.image
    essential              = true
    readonlyRootFilesystem = true
    cpu                    = var.cpu_units - 768
    memory                 = var.memory_mib - 1024
    # Longer than the drain, so that what is left is told why it failed.
    stopTimeout  = var.drain_seconds + 15
    environment  = [for name, value in local.environment : { name = name, value = value }]
    secrets      = [for name in local.secrets_of.backend : { name = name, valueFrom = aws_secretsmanager_secret.region[name].arn }]
    mountPoints  = [{ sourceVolume = "cache", containerPath = "/cache" }]
    portMappings = [{ containerPort = local.port, protocol = "tcp" }]
    resourceRequirements = [
      for gpus in var.gpus > 0 ? [var.gpus] : [] : { type = "GPU", value = tostring(gpus) }
    ]
    # Alive, not ready: a base that is being read takes its time, and until then the edge is answered 503 and asks elsewhere.
    healthCheck = {
      command     = ["CMD", "node", "-e", "fetch('http://127.0.0.1:${local.port}/health/live').then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]
      interval    = 30
      timeout     = 5
      retries     = 3
      startPeriod = 300
    }
    # Open sockets: each request in flight has one.
    ulimits          = [{ name = "nofile", softLimit = 65536, hardLimit = 65536 }]
    logConfiguration = { logDriver = "awslogs", options = merge(local.log_options, { awslogs-stream-prefix = "backend" }) }
  }

  cloudflared = {
    name                   = "cloudflared"
    image                  = var.sidecar_images.cloudflared
    essential              = true
    readonlyRootFilesystem = true
    cpu                    = 512
    memory                 = 512
    # Stopped before the backend: it takes no more requests, and those in flight end.
    stopTimeout      = var.drain_seconds + 15
    command          = ["tunnel", "--no-autoupdate", "--grace-period", "${var.drain_seconds}s", "run"]
    secrets          = [for name in local.secrets_of.cloudflared : { name = name, valueFrom = aws_secretsmanager_secret.region[name].arn }]
    dependsOn        = [{ containerName = "backend", condition = "START" }]
    logConfiguration = { logDriver = "awslogs", options = merge(local.log_options, { awslogs-stream-prefix = "cloudflared" }) }
  }

  # A region serves on without its metrics.
  collector = {
    name             = "collector"
    image            = var.sidecar_images.collector
    essential        = false
    cpu              = 256
    memory           = 512
    environment      = [{ name = "AOT_CONFIG_CONTENT", value = yamlencode(local.collector_config) }]
    secrets          = [for name in local.secrets_of.collector : { name = name, valueFrom = aws_secretsmanager_secret.region[name].arn }]
    dependsOn        = [{ containerName = "backend", condition = "START" }]
    logConfiguration = { logDriver = "awslogs", options = merge(local.log_options, { awslogs-stream-prefix = "collector" }) }
  }

  metric_namespace = "Signpost"
  metric_names     = ["vllm:num_requests_running", "vllm:num_requests_waiting", "signpost_engine_up"]
  scrape_seconds   = 15

  # Reads the container's metrics and hands on the few that scaling and alarms look at; each is billed.
  collector_config = {
    receivers = {
      prometheus = {
        config = {
          scrape_configs = [{
            job_name        = "signpost"
            scrape_interval = "${local.scrape_seconds}s"
            authorization   = { credentials = "$${env:SIGNPOST_METRICS_KEY}" }
            static_configs  = [{ targets = ["127.0.0.1:${local.port}"] }]
          }]
        }
      }
    }
    processors = {
      filter = {
        metrics = { include = { match_type = "strict", metric_names = local.metric_names } }
      }
    }
    exporters = {
      awsemf = {
        region                  = var.aws_region
        namespace               = local.metric_namespace
        log_group_name          = aws_cloudwatch_log_group.region.name
        log_stream_name         = "metrics/{TaskId}"
        dimension_rollup_option = "NoDimensionRollup"
        metric_declarations = [{
          dimensions            = [["region"]]
          metric_name_selectors = [for name in local.metric_names : "^${name}$"]
        }]
      }
    }
    service = {
      pipelines = {
        metrics = { receivers = ["prometheus"], processors = ["filter"], exporters = ["awsemf"] }
      }
    }
  }
}

resource "aws_ecs_task_definition" "region" {
  region                   = var.aws_region
  family                   = local.full_name
  requires_compatibilities = ["MANAGED_INSTANCES"]
  network_mode             = "awsvpc"
  cpu                      = tostring(var.cpu_units)
  memory                   = tostring(var.memory_mib)
  execution_role_arn       = aws_iam_role.execution.arn
  task_role_arn            = aws_iam_role.task.arn
  container_definitions    = jsonencode([local.backend, local.cloudflared, local.collector])
  tags                     = local.tags

  volume {
    name = "cache"
  }

  volume {
    name = "tmp"
  }
}

resource "aws_ecs_service" "region" {
  region          = var.aws_region
  name            = var.name
  cluster         = module.cluster.arn
  task_definition = aws_ecs_task_definition.region.arn
  # The first; from then on scaling and the hook say how many.
  desired_count = var.tasks.min
  # A new one is there before an old one goes, and a region of one task serves on.
  deployment_minimum_healthy_percent = 100
  deployment_maximum_percent         = 200
  propagate_tags                     = "SERVICE"
  tags                               = local.tags

  capacity_provider_strategy {
    capacity_provider = module.cluster.capacity_providers[local.full_name].name
    weight            = 1
  }

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  network_configuration {
    subnets         = local.subnet_ids
    security_groups = [aws_security_group.task.id]
  }

  lifecycle {
    ignore_changes = [desired_count]
  }

  # Tasks read them when they start.
  depends_on = [aws_secretsmanager_secret_version.region, aws_iam_role_policy.execution, aws_iam_role_policy.task]
}
