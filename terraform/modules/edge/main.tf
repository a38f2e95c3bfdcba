# The Worker's name and place alone. Its code, bindings, Durable Objects and deployments are wrangler's, which is told the ids below (terraform/bin/wrangler-config.mjs).
resource "cloudflare_worker" "edge" {
  account_id = var.cloudflare_account_id
  name       = var.name

  observability = {
    enabled = true
  }

  subdomain = {
    enabled          = var.domain == null
    previews_enabled = false
  }
}

# Holds the rules in force.
resource "cloudflare_workers_kv_namespace" "config" {
  account_id = var.cloudflare_account_id
  title      = "${var.name}-config"
}

resource "cloudflare_queue" "shadows" {
  account_id = var.cloudflare_account_id
  queue_name = "${var.name}-shadows"
}

resource "cloudflare_workers_custom_domain" "edge" {
  count = var.domain == null ? 0 : 1

  account_id = var.cloudflare_account_id
  zone_id    = var.domain.zone_id
  hostname   = var.domain.hostname
  service    = cloudflare_worker.edge.name
}

# Signs requests to the regions, and their heartbeats.
resource "random_password" "region_secret" {
  for_each = toset(concat(var.region_secrets.regions, var.region_secrets.edge))

  length  = 64
  special = false
}

moved {
  from = random_password.region_secret
  to   = random_password.region_secret["1"]
}

locals {
  # The first of each side signs; a space between two.
  region_secret = {
    for side, generations in var.region_secrets :
    side => join(" ", [for generation in generations : random_password.region_secret[generation].result])
  }
}

# Opens the admin API, which makes the apps' keys. The Worker knows its hash.
resource "random_password" "admin_key" {
  length  = 48
  special = false
}

resource "random_password" "metrics_key" {
  length  = 48
  special = false
}
