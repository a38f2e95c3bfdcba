# What is wrong is said before anything is made.
mock_provider "cloudflare" {}
mock_provider "random" {}

variables {
  cloudflare_account_id = "0123456789abcdef0123456789abcdef"
  bucket                = "signpost-artifacts"
  workers_dev_subdomain = "acme"
}

run "neither_domain_nor_subdomain" {
  command = plan
  variables {
    workers_dev_subdomain = null
  }
  expect_failures = [var.workers_dev_subdomain]
}

run "domain" {
  command = plan
  variables {
    domain = { hostname = "https://llm.example.com", zone_id = "fedcba9876543210fedcba9876543210" }
  }
  expect_failures = [var.domain]
}

run "account" {
  command = plan
  variables {
    cloudflare_account_id = "acme"
  }
  expect_failures = [var.cloudflare_account_id]
}

run "regions_by_hand" {
  command = plan
  variables {
    variables = { REGIONS = "[]" }
  }
  expect_failures = [var.variables]
}
