# One region, which runs nothing while nobody asks. It reads the experts from R2: no mirror to keep.
module "artifacts" {
  source = "../../modules/artifacts"

  cloudflare_account_id = var.cloudflare_account_id
}

module "edge" {
  source = "../../modules/edge"

  cloudflare_account_id = var.cloudflare_account_id
  bucket                = module.artifacts.bucket
  domain                = { hostname = var.domain, zone_id = var.zone_id }
}

module "region" {
  source = "../../modules/region-gpu"

  name       = "eu"
  aws_region = "eu-central-1"
  place      = { continent = "EU" }
  tasks      = { min = 0, max = 2 }

  image         = var.image
  store         = module.artifacts.r2.store
  store_r2      = merge({ endpoint = module.artifacts.r2.endpoint }, module.artifacts.r2_read)
  edge_url      = module.edge.url
  region_secret = module.edge.region_secret

  cloudflare_account_id = var.cloudflare_account_id
  # Two names deep needs a certificate of its own (Advanced Certificate Manager); so beside the edge's, not below it.
  domain = { hostname = "eu-${var.domain}", zone_id = var.zone_id }
}
