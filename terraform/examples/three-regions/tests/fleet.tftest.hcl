# `terraform test`: the fleet as it would be, without a cloud.
mock_provider "aws" {
  mock_data "aws_availability_zones" {
    defaults = { names = ["a", "b", "c", "d"] }
  }
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
}
mock_provider "cloudflare" {}
mock_provider "random" {
  mock_resource "random_password" {
    defaults = { result = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" }
  }
}
mock_provider "archive" {}

variables {
  cloudflare_account_id = "0123456789abcdef0123456789abcdef"
  zone_id               = "fedcba9876543210fedcba9876543210"
  domain                = "llm.example.com"
  image_tag             = "0.1.0"
}

run "fleet" {
  command = plan

  assert {
    condition     = output.url == "https://llm.example.com"
    error_message = "The edge is at its domain."
  }

  assert {
    condition     = { for region in output.wrangler.regions : region.name => region.url } == { ap = "https://ap-llm.example.com", eu = "https://eu-llm.example.com", us = "https://us-llm.example.com" }
    error_message = "Each region has its own name, beside the edge's."
  }

  assert {
    condition     = output.mirrors["us-east-1"].bucket == "signpost-artifacts-123456789012-us-east-1" && length(output.image_repositories) == 3
    error_message = "Each region has a mirror and a repository."
  }

  assert {
    condition     = toset(keys(nonsensitive(output.wrangler_secrets))) == toset(["ADMIN_KEY_HASHES", "METRICS_KEY_HASHES", "REGION_SECRET", "WAKE_KEY_AP", "WAKE_KEY_EU", "WAKE_KEY_US"])
    error_message = "The Worker has the secrets that it needs."
  }
}
