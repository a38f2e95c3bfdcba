output "url" {
  description = "Where apps find the edge, and regions tell it how they are."
  value       = var.domain == null ? "https://${cloudflare_worker.edge.name}.${var.workers_dev_subdomain}.workers.dev" : "https://${var.domain.hostname}"
}

output "wrangler" {
  description = "What wrangler is told, without the regions: names, ids and variables."
  value = {
    name              = cloudflare_worker.edge.name
    account_id        = var.cloudflare_account_id
    workers_dev       = var.domain == null
    config_namespace  = cloudflare_workers_kv_namespace.config.id
    artifacts_bucket  = var.bucket
    shadows_queue     = cloudflare_queue.shadows.queue_name
    analytics_dataset = var.analytics_dataset
    variables         = var.variables
  }
}

output "region_secret" {
  description = "What regions share with the edge."
  value       = local.region_secret.regions
  sensitive   = true
}

output "admin_key" {
  description = "Administrator's key, for `SIGNPOST_ADMIN_KEY`."
  value       = random_password.admin_key.result
  sensitive   = true
}

output "metrics_key" {
  description = "Key that `/metrics` is read with."
  value       = random_password.metrics_key.result
  sensitive   = true
}

output "secrets" {
  description = "The Worker's secrets by name, without those that regions name; keys of administrators and of metrics as hashes."
  sensitive   = true
  value = {
    REGION_SECRET      = local.region_secret.edge
    ADMIN_KEY_HASHES   = jsonencode({ (sha256(random_password.admin_key.result)) = "terraform" })
    METRICS_KEY_HASHES = jsonencode([sha256(random_password.metrics_key.result)])
  }
}
