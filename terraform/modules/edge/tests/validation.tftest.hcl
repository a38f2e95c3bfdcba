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

run "a_secret_changed_at_once" {
  command = plan
  variables {
    region_secrets = { regions = ["1"], edge = ["2", "1"] }
  }
  expect_failures = [var.region_secrets]
}

run "three_secrets" {
  command = plan
  variables {
    region_secrets = { regions = ["1", "2", "3"], edge = ["1"] }
  }
  expect_failures = [var.region_secrets]
}

run "regions_accept_the_new_secret" {
  variables {
    region_secrets = { regions = ["1", "2"], edge = ["1"] }
  }

  assert {
    condition     = length(random_password.region_secret) == 2 && nonsensitive(output.region_secret) == "${nonsensitive(random_password.region_secret["1"].result)} ${nonsensitive(random_password.region_secret["2"].result)}"
    error_message = "The old one signs, the new one is accepted."
  }
}

run "the_edge_signs_with_the_new_secret" {
  variables {
    region_secrets = { regions = ["1", "2"], edge = ["2", "1"] }
  }

  assert {
    condition     = nonsensitive(output.secrets.REGION_SECRET) == join(" ", reverse(split(" ", nonsensitive(output.region_secret))))
    error_message = "The edge signs with the new one, and accepts the old one."
  }
}

run "the_old_secret_is_gone" {
  variables {
    region_secrets = { regions = ["2"], edge = ["2"] }
  }

  assert {
    condition     = length(random_password.region_secret) == 1 && nonsensitive(output.region_secret) == nonsensitive(output.secrets.REGION_SECRET)
    error_message = "Both sides have the new one."
  }
}
