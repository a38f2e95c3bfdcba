# The store: what the packer publishes to and the edge reads. A `destroy` fails while anything is in it: R2 deletes empty buckets only, as S3 does.
resource "cloudflare_r2_bucket" "artifacts" {
  account_id = var.cloudflare_account_id
  name       = "${var.name}-artifacts"
  location   = var.r2_location
}

# Objects themselves never expire: `signpost-packer gc` knows which are still named.
resource "cloudflare_r2_bucket_lifecycle" "artifacts" {
  account_id  = var.cloudflare_account_id
  bucket_name = cloudflare_r2_bucket.artifacts.name

  rules = [{
    id      = "unfinished-uploads"
    enabled = true
    conditions = {
      prefix = ""
    }
    abort_multipart_uploads_transition = {
      condition = {
        type    = "Age"
        max_age = var.unfinished_upload_days * 86400
      }
    }
  }]
}

# Groups are found by their names: ids differ between kinds of accounts.
data "cloudflare_account_api_token_permission_groups_list" "all" {
  account_id = var.cloudflare_account_id
}

locals {
  r2_groups = {
    read  = ["Workers R2 Storage Bucket Item Read"]
    write = ["Workers R2 Storage Bucket Item Read", "Workers R2 Storage Bucket Item Write"]
  }
  r2_bucket_resource = "com.cloudflare.edge.r2.bucket.${var.cloudflare_account_id}_default_${cloudflare_r2_bucket.artifacts.name}"
}

# `read` is for regions, `write` for who publishes; either opens this bucket alone.
resource "cloudflare_account_token" "r2" {
  for_each = local.r2_groups

  account_id = var.cloudflare_account_id
  name       = "${var.name}-artifacts-${each.key}"

  policies = [{
    effect = "allow"
    permission_groups = [
      for group in data.cloudflare_account_api_token_permission_groups_list.all.result : { id = group.id }
      if contains(each.value, group.name)
    ]
    resources = jsonencode({ (local.r2_bucket_resource) = "*" })
  }]
}
