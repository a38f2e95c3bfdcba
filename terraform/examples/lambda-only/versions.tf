terraform {
  required_version = ">= 1.9.0"

  # The state holds the fleet's secrets: keep it encrypted, and away from who shouldn't have them.
  # backend "s3" {
  #   bucket       = "my-terraform-state"
  #   key          = "signpost/terraform.tfstate"
  #   region       = "eu-central-1"
  #   encrypt      = true
  #   use_lockfile = true
  # }

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 6.28"
    }
    cloudflare = {
      source  = "cloudflare/cloudflare"
      version = "5.14.0"
    }
    random = {
      source  = "hashicorp/random"
      version = "~> 3.7"
    }
  }
}

# Credentials come from the environment: AWS_PROFILE (or what AWS's tools take else), CLOUDFLARE_API_TOKEN.
provider "aws" {
  # For what has no region; each module's are given to it.
  region = "eu-central-1"
}

provider "cloudflare" {}
