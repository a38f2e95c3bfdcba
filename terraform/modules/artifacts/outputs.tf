output "bucket" {
  description = "Name of the R2 bucket."
  value       = cloudflare_r2_bucket.artifacts.name
}

output "r2" {
  description = "How R2 is reached by S3's protocol: `store` for `--store`, `endpoint` for `AWS_ENDPOINT_URL_S3`."
  value = {
    store    = "s3://${cloudflare_r2_bucket.artifacts.name}"
    endpoint = "https://${var.cloudflare_account_id}.r2.cloudflarestorage.com"
  }
}

output "r2_read" {
  description = "Key of the regions, `access_key_id` and `secret_access_key`: it reads the bucket."
  sensitive   = true
  value = {
    access_key_id     = cloudflare_account_token.r2["read"].id
    secret_access_key = sha256(cloudflare_account_token.r2["read"].value)
  }
}

output "r2_write" {
  description = "Key of who publishes, `access_key_id` and `secret_access_key`: it reads and writes the bucket."
  sensitive   = true
  value = {
    access_key_id     = cloudflare_account_token.r2["write"].id
    secret_access_key = sha256(cloudflare_account_token.r2["write"].value)
  }
}

output "mirrors" {
  description = "The mirrors by AWS region: `bucket`, `arn`, and `store` for `--store`."
  value = {
    for region, bucket in aws_s3_bucket.mirror : region => {
      bucket = bucket.bucket
      arn    = bucket.arn
      store  = "s3://${bucket.bucket}"
    }
  }
}

output "mirror_write_policy_arn" {
  description = "Policy for whoever copies to the mirrors; null without mirrors."
  value       = one(aws_iam_policy.mirror_write[*].arn)
}

output "image_repositories" {
  description = "Repositories for images by AWS region, as `docker push` takes them."
  value       = { for region, repository in aws_ecr_repository.images : region => repository.repository_url }
}
