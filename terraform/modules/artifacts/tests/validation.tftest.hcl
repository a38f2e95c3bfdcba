# What is wrong is said before anything is made.
mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
}
mock_provider "cloudflare" {}

variables {
  cloudflare_account_id = "0123456789abcdef0123456789abcdef"
}

run "no_mirror" {
  command = plan

  assert {
    condition     = output.mirrors == {} && output.mirror_write_policy_arn == null
    error_message = "Without mirrors nothing is made in AWS."
  }
}

run "mirror" {
  command = plan
  variables {
    mirror_regions = ["eu-central-1"]
  }

  assert {
    condition     = alltrue([for block in aws_s3_bucket_public_access_block.mirror : block.block_public_acls && block.block_public_policy && block.ignore_public_acls && block.restrict_public_buckets])
    error_message = "Nobody can make a mirror public."
  }
}

run "region" {
  command = plan
  variables {
    mirror_regions = ["Frankfurt"]
  }
  expect_failures = [var.mirror_regions]
}

run "name" {
  command = plan
  variables {
    name = "Signpost"
  }
  expect_failures = [var.name]
}
