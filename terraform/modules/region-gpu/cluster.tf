locals {
  full_name = "${var.prefix}-${var.name}"
  port      = 8000
  tags      = merge(var.tags, { "signpost:region" = var.name })
}

# AWS chooses, patches and ends the instances: Managed Instances, by what a task needs.
module "cluster" {
  source  = "terraform-aws-modules/ecs/aws//modules/cluster"
  version = "7.6.1"

  region = var.aws_region
  name   = local.full_name
  tags   = local.tags

  # Nothing of ours is read from Container Insights, which is billed by the metric; nobody opens shells in tasks.
  setting                     = [{ name = "containerInsights", value = "disabled" }]
  create_cloudwatch_log_group = false
  configuration               = null

  # Tasks have their own.
  create_security_group = false

  capacity_providers = {
    (local.full_name) = {
      managed_instances_provider = {
        propagate_tags = "CAPACITY_PROVIDER"
        instance_launch_template = {
          capacity_option_type = var.capacity == "spot" ? "SPOT" : "ON_DEMAND"
          instance_requirements = {
            allowed_instance_types = var.instance_types
            vcpu_count             = { min = floor(var.cpu_units / 1024) }
            memory_mib             = { min = var.memory_mib }
            accelerator_count      = { min = var.gpus, max = var.gpus }
            # An empty list would ask for accelerators of no kind.
            accelerator_manufacturers = var.gpus > 0 ? ["nvidia"] : null
            accelerator_types         = var.gpus > 0 ? ["gpu"] : null
          }
          network_configuration = {
            subnets         = local.subnet_ids
            security_groups = [aws_security_group.task.id]
          }
          storage_configuration = { storage_size_gib = var.disk_gib }
        }
      }
    }
  }
}
