output "url" {
  description = "Where apps find the edge."
  value       = module.edge.url
}

output "wrangler" {
  description = "What terraform/bin/wrangler-config.mjs makes the Worker's configuration of."
  value       = merge(module.edge.wrangler, { regions = [for region in module.region : region.region] })
}

output "wrangler_secrets" {
  description = "The Worker's secrets, for `wrangler secret bulk`."
  value       = merge(module.edge.secrets, [for region in module.region : region.edge_secrets]...)
  sensitive   = true
}

output "admin_key" {
  description = "Administrator's key of the edge, for `SIGNPOST_ADMIN_KEY`."
  value       = module.edge.admin_key
  sensitive   = true
}

output "publish" {
  description = "Environment and store for `signpost-packer publish`."
  sensitive   = true
  value = {
    AWS_ENDPOINT_URL_S3   = module.artifacts.r2.endpoint
    AWS_REGION            = "auto"
    AWS_ACCESS_KEY_ID     = module.artifacts.r2_write.access_key_id
    AWS_SECRET_ACCESS_KEY = module.artifacts.r2_write.secret_access_key
    SIGNPOST_STORE        = module.artifacts.r2.store
  }
}

output "image_repositories" {
  description = "Where the image is pushed, by AWS region."
  value       = module.artifacts.image_repositories
}

output "mirrors" {
  description = "The regions' copies of the store, by AWS region."
  value       = module.artifacts.mirrors
}
