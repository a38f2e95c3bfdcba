locals {
  # A region more is a line here, and its copy of the image and of the store (README.md).
  regions = {
    eu = { aws_region = "eu-central-1", place = { continent = "EU" } }
    us = { aws_region = "us-east-1", place = { continent = "NA" } }
    ap = { aws_region = "ap-northeast-1", place = { continent = "AS" } }
  }
}

module "artifacts" {
  source = "../../modules/artifacts"

  cloudflare_account_id = var.cloudflare_account_id
  mirror_regions        = [for region in local.regions : region.aws_region]
}

module "edge" {
  source = "../../modules/edge"

  cloudflare_account_id = var.cloudflare_account_id
  bucket                = module.artifacts.bucket
  domain                = { hostname = var.domain, zone_id = var.zone_id }
}

module "region" {
  source   = "../../modules/region-gpu"
  for_each = local.regions

  name       = each.key
  aws_region = each.value.aws_region
  place      = each.value.place

  image         = "${module.artifacts.image_repositories[each.value.aws_region]}:${var.image_tag}"
  store         = module.artifacts.mirrors[each.value.aws_region].store
  edge_url      = module.edge.url
  region_secret = module.edge.region_secret

  cloudflare_account_id = var.cloudflare_account_id
  # Two names deep needs a certificate of its own (Advanced Certificate Manager); so beside the edge's, not below it.
  domain = { hostname = "${each.key}-${var.domain}", zone_id = var.zone_id }
}
