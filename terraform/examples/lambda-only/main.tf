# No GPU, no domain, nothing that costs while nobody asks: functions alone, for small bases.
locals {
  aws_region = "eu-central-1"
}

module "artifacts" {
  source = "../../modules/artifacts"

  cloudflare_account_id = var.cloudflare_account_id
  mirror_regions        = [local.aws_region]
}

module "edge" {
  source = "../../modules/edge"

  cloudflare_account_id = var.cloudflare_account_id
  bucket                = module.artifacts.bucket
  workers_dev_subdomain = var.workers_dev_subdomain
}

module "function" {
  source = "../../modules/lambda-fallback"

  name       = "eu"
  aws_region = local.aws_region
  continent  = "EU"
  # There is nothing to overflow from.
  role = "regular"

  image         = "${module.artifacts.image_repositories[local.aws_region]}:${var.image_tag}"
  store         = module.artifacts.mirrors[local.aws_region].store
  region_secret = module.edge.region_secret
}
