# What is wrong is said before anything is made.
mock_provider "archive" {}
mock_provider "aws" {
  mock_data "aws_availability_zones" {
    defaults = { names = ["a", "b", "c"] }
  }
}
mock_provider "cloudflare" {}
mock_provider "random" {}

variables {
  name                  = "eu"
  aws_region            = "eu-central-1"
  place                 = { continent = "EU" }
  image                 = "ghcr.io/example/signpost:0.1.0"
  store                 = "s3://experts/prod"
  edge_url              = "https://llm.example.com"
  region_secret         = "0123456789abcdef0123456789abcdef"
  cloudflare_account_id = "0123456789abcdef0123456789abcdef"
  domain                = { hostname = "eu-llm.example.com", zone_id = "fedcba9876543210fedcba9876543210" }
}

run "what_is_right" {
  command = plan

  variables {
    capacity  = "spot"
    gpus      = 0
    schedules = { night = { cron = "0 20 * * ? *", timezone = "Europe/Berlin", min = 0, max = 0 } }
    network   = { vpc_id = "vpc-1", subnet_ids = ["subnet-1"] }
  }

  assert {
    condition     = length(aws_vpc.region) == 0 && length(aws_appautoscaling_scheduled_action.by_time) == 1 && output.region.wake != null
    error_message = "A network that is there is used, and a region that sleeps at night has a hook."
  }

  assert {
    condition     = tolist(data.aws_iam_policy_document.task.statement[1].resources) == tolist(["arn:aws:s3:::experts/prod/*"])
    error_message = "The task reads its prefix of the bucket alone."
  }
}

run "name" {
  command = plan
  variables {
    name = "EU_1"
  }
  expect_failures = [var.name]
}

run "place" {
  command = plan
  variables {
    place = { latitude = 50 }
  }
  expect_failures = [var.place]
}

run "image_latest" {
  command = plan
  variables {
    image = "ghcr.io/example/signpost:latest"
  }
  expect_failures = [var.image]
}

run "image_untagged" {
  command = plan
  variables {
    image = "ghcr.io/example/signpost"
  }
  expect_failures = [var.image]
}

run "store" {
  command = plan
  variables {
    store = "/experts"
  }
  expect_failures = [var.store]
}

run "secret_in_environment" {
  command = plan
  variables {
    environment = { SIGNPOST_REGION_SECRET = "x" }
  }
  expect_failures = [var.environment]
}

run "short_secret" {
  command = plan
  variables {
    region_secret = "short"
  }
  expect_failures = [var.region_secret]
}

run "capacity" {
  command = plan
  variables {
    capacity = "cheap"
  }
  expect_failures = [var.capacity]
}

run "tasks" {
  command = plan
  variables {
    tasks = { min = 3, max = 2 }
  }
  expect_failures = [var.tasks]
}

run "schedules" {
  command = plan
  variables {
    schedules = { night = { cron = "0 20 * * *", min = 0, max = 0 } }
  }
  expect_failures = [var.schedules]
}

run "plain_edge" {
  command = plan
  variables {
    edge_url = "http://llm.example.com"
  }
  expect_failures = [var.edge_url]
}
