# `terraform test`: the fleet as it would be, without a cloud.
mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_resource "aws_ecr_repository" {
    defaults = { repository_url = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/signpost" }
  }
}
mock_provider "cloudflare" {}
mock_provider "random" {
  mock_resource "random_password" {
    defaults = { result = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" }
  }
}

variables {
  cloudflare_account_id = "0123456789abcdef0123456789abcdef"
  workers_dev_subdomain = "acme"
  image_tag             = "lambda-0.1.0"
}

run "fleet" {
  assert {
    condition     = output.url == "https://signpost.acme.workers.dev"
    error_message = "Without a domain the edge is at workers.dev."
  }

  assert {
    condition     = output.wrangler.regions[0].kind == "lambda" && output.wrangler.regions[0].function == "signpost-eu" && output.wrangler.regions[0].qualifier == "live"
    error_message = "The edge asks the function by its alias."
  }

  assert {
    condition     = length(setsubtract([output.wrangler.regions[0].accessKeyIdSecret, output.wrangler.regions[0].secretAccessKeySecret], keys(nonsensitive(output.wrangler_secrets)))) == 0
    error_message = "The Worker has the secrets that the region names."
  }
}
