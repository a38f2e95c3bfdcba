# Stands for terraform-aws-modules/ecs/aws//modules/cluster 7.6.1 in checks, where nothing can be downloaded: the inputs and outputs that are used of it, with its types.
# Nothing here is ever applied.
terraform {
  required_version = ">= 1.9.0"
}

variable "region" {
  description = "AWS region."
  type        = string
  default     = null
}

variable "name" {
  description = "Name of the cluster."
  type        = string
  default     = ""
}

variable "tags" {
  description = "Tags of everything."
  type        = map(string)
  default     = {}
}

variable "setting" {
  description = "The cluster's settings."
  type        = list(object({ name = string, value = string }))
  default     = []
}

variable "configuration" {
  description = "Of shells in tasks."
  type = object({
    execute_command_configuration = optional(object({
      kms_key_id = optional(string)
      logging    = optional(string, "OVERRIDE")
    }))
  })
  default = {}
}

variable "create_cloudwatch_log_group" {
  description = "Whether the cluster has a log group."
  type        = bool
  default     = true
}

variable "create_security_group" {
  description = "Whether instances have a security group of the module's."
  type        = bool
  default     = true
}

variable "capacity_providers" {
  description = "What tasks run on."
  type = map(object({
    name = optional(string)
    managed_instances_provider = optional(object({
      infrastructure_role_arn = optional(string)
      propagate_tags          = optional(string, "CAPACITY_PROVIDER")
      instance_launch_template = object({
        capacity_option_type     = optional(string)
        ec2_instance_profile_arn = optional(string)
        instance_requirements = optional(object({
          accelerator_count         = optional(object({ min = optional(number), max = optional(number) }))
          accelerator_manufacturers = optional(list(string))
          accelerator_types         = optional(list(string))
          allowed_instance_types    = optional(list(string))
          memory_mib                = optional(object({ min = optional(number), max = optional(number) }))
          vcpu_count                = optional(object({ min = optional(number), max = optional(number) }))
        }))
        network_configuration = optional(object({ subnets = list(string), security_groups = optional(list(string), []) }))
        storage_configuration = optional(object({ storage_size_gib = number }))
      })
    }))
  }))
  default = null
}

output "arn" {
  description = "ARN of the cluster."
  value       = "arn:aws:ecs:${coalesce(var.region, "eu-central-1")}:123456789012:cluster/${var.name}"
}

output "name" {
  description = "Name of the cluster."
  value       = var.name
}

output "capacity_providers" {
  description = "What tasks run on, by name."
  value       = { for name, provider in coalesce(var.capacity_providers, {}) : name => { name = coalesce(provider.name, name) } }
}
