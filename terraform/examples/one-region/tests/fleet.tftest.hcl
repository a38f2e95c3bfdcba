# `terraform test`: the fleet as it would be, without a cloud.
mock_provider "aws" {
  mock_data "aws_availability_zones" {
    defaults = { names = ["a", "b", "c", "d"] }
  }
  mock_resource "aws_apigatewayv2_api" {
    defaults = { api_endpoint = "https://hook.execute-api.eu-central-1.amazonaws.com" }
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
  image                 = "ghcr.io/example/signpost:0.1.0"
}

run "fleet" {
  assert {
    condition     = length(output.wrangler.regions) == 1 && output.wrangler.regions[0].wake.secret == "WAKE_KEY_EU" && endswith(output.wrangler.regions[0].wake.url, "/wake")
    error_message = "A region that may run nothing has a hook."
  }

  assert {
    condition     = nonsensitive(output.publish.SIGNPOST_STORE) == "s3://signpost-artifacts" && nonsensitive(output.publish.AWS_ENDPOINT_URL_S3) == "https://0123456789abcdef0123456789abcdef.r2.cloudflarestorage.com"
    error_message = "Who publishes is told where."
  }

  assert {
    condition     = nonsensitive(output.wrangler_secrets.ADMIN_KEY_HASHES) == jsonencode({ (sha256(nonsensitive(output.admin_key))) = "terraform" })
    error_message = "The Worker knows the hash of the administrator's key."
  }
}
