# What is wrong is said before anything is made.
mock_provider "aws" {}

variables {
  aws_region    = "eu-central-1"
  continent     = "EU"
  image         = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/signpost:lambda-0.1.0"
  store         = "s3://experts"
  region_secret = "0123456789abcdef0123456789abcdef"
}

run "what_is_right" {
  command = plan

  assert {
    condition     = aws_lambda_function.region.environment[0].variables.SIGNPOST_THREADS == "5" && output.region.role == "overflow"
    error_message = "As many threads as AWS gives vCPUs, and asked after the others."
  }
}

run "image_of_another_region" {
  command = plan
  variables {
    image = "123456789012.dkr.ecr.us-east-1.amazonaws.com/signpost:lambda-0.1.0"
  }
  expect_failures = [var.image]
}

run "memory" {
  command = plan
  variables {
    memory_mb = 512
  }
  expect_failures = [var.memory_mb]
}

run "continent" {
  command = plan
  variables {
    continent = "Europe"
  }
  expect_failures = [var.continent]
}
