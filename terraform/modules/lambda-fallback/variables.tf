variable "name" {
  description = "The region's name: in rules, headers and signatures, and in the names of what is created."
  type        = string
  default     = "burst"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,18}[a-z0-9]$", var.name))
    error_message = "name is \"${var.name}\"; a region's is 2 to 20 lower-case letters, digits and \"-\", a letter first."
  }
}

variable "prefix" {
  description = "What stands before `name` in the names of what is created."
  type        = string
  default     = "signpost"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,18}$", var.prefix))
    error_message = "prefix is \"${var.prefix}\"; it is 2 to 19 lower-case letters, digits and \"-\", a letter first."
  }
}

variable "aws_region" {
  description = "AWS region that the function is in."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.aws_region))
    error_message = "aws_region is \"${var.aws_region}\"; expected one of AWS's regions, such as \"eu-central-1\"."
  }
}

variable "continent" {
  description = "Where the function stands, for the edge's plan: AF, AN, AS, EU, NA, OC or SA."
  type        = string
  nullable    = false

  validation {
    condition     = contains(["AF", "AN", "AS", "EU", "NA", "OC", "SA"], var.continent)
    error_message = "continent is \"${var.continent}\"; expected one of AF, AN, AS, EU, NA, OC, SA."
  }
}

variable "role" {
  description = "`overflow`: asked where the others can't. `regular`: as any region, for a fleet of functions alone."
  type        = string
  default     = "overflow"
  nullable    = false

  validation {
    condition     = contains(["overflow", "regular"], var.role)
    error_message = "role is \"${var.role}\"; expected \"overflow\" or \"regular\"."
  }
}

variable "image" {
  description = "Image of `signpost-lambda` in a repository (ECR) of the same AWS region."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[0-9]{12}\\.dkr\\.ecr\\.[a-z0-9-]+\\.amazonaws\\.com/[^:@]+(:[A-Za-z0-9_][A-Za-z0-9_.-]*|@sha256:[0-9a-f]{64})$", var.image)) && strcontains(var.image, ".ecr.${var.aws_region}.") && !endswith(var.image, ":latest")
    error_message = "image is \"${var.image}\"; a function takes ACCOUNT.dkr.ecr.${var.aws_region}.amazonaws.com/NAME:TAG, of its own region and with a tag other than \"latest\"."
  }
}

variable "architecture" {
  description = "What the image's kernels were compiled for: `x86_64` or `arm64`."
  type        = string
  default     = "x86_64"
  nullable    = false

  validation {
    condition     = contains(["x86_64", "arm64"], var.architecture)
    error_message = "architecture is \"${var.architecture}\"; expected \"x86_64\" or \"arm64\"."
  }
}

variable "base" {
  description = "The base: `store:NAME`, `store:DIGEST` or `store:` for one that was published in the store, which each start fetches; or a folder of the image."
  type        = string
  default     = "store:"
  nullable    = false
}

variable "store" {
  description = "Store of the experts in S3: `s3://BUCKET`, of `module.artifacts.mirrors`."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/.*)?$", var.store))
    error_message = "store is \"${var.store}\"; a function reads s3://BUCKET or s3://BUCKET/PREFIX."
  }
}

variable "region_secret" {
  description = "What the edge and the region sign with: `module.edge.region_secret`."
  type        = string
  nullable    = false
  sensitive   = true

  validation {
    condition     = length(var.region_secret) >= 32
    error_message = "region_secret needs 32 characters at least: take module.edge.region_secret, or openssl rand -hex 32."
  }
}

variable "memory_mb" {
  description = "Memory, MB. It sets the CPU, too: a vCPU for each 1,769."
  type        = number
  default     = 10240
  nullable    = false

  validation {
    condition     = var.memory_mb >= 1769 && var.memory_mb <= 10240
    error_message = "memory_mb is ${var.memory_mb}; expected 1769 (one vCPU) to 10240, the most that AWS gives."
  }
}

variable "disk_mb" {
  description = "`/tmp`, MB: for experts beyond the memory's cache, and a base that is fetched, which then has four fifths of it."
  type        = number
  default     = 10240
  nullable    = false

  validation {
    condition     = var.disk_mb >= 512 && var.disk_mb <= 10240
    error_message = "disk_mb is ${var.disk_mb}; AWS gives 512 to 10240."
  }
}

variable "timeout_seconds" {
  description = "Longest answer, a cold start included."
  type        = number
  default     = 300
  nullable    = false

  validation {
    condition     = var.timeout_seconds >= 10 && var.timeout_seconds <= 900
    error_message = "timeout_seconds is ${var.timeout_seconds}; expected 10 to 900, AWS's limit."
  }
}

variable "max_concurrency" {
  description = "Most environments at once, one request each: the bound on what a flood costs. Null for the account's own."
  type        = number
  default     = 20

  validation {
    condition     = var.max_concurrency == null ? true : var.max_concurrency >= 1
    error_message = "max_concurrency must be at least 1, or null for the account's own limit."
  }
}

variable "cold_start_ms" {
  description = "What a start takes, as measured: bench/src/lambda-start.ts, and AWS's own share from the function's log."
  type        = number
  default     = 10000
  nullable    = false

  validation {
    condition     = var.cold_start_ms >= 0
    error_message = "cold_start_ms can't be negative."
  }
}

variable "environment" {
  description = "Further flags of `signpost-lambda` by their variables: `{ SIGNPOST_WEIGHTS = \"q8\" }`."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "log_days" {
  description = "Days that logs are kept, one of CloudWatch's spans."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731], var.log_days)
    error_message = "log_days is ${var.log_days}; CloudWatch keeps logs for 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545 or 731 days."
  }
}

variable "alarm_topic_arns" {
  description = "SNS topics in the same AWS region that are told of alarms."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for arn in var.alarm_topic_arns : can(regex("^arn:aws[a-z-]*:sns:", arn))])
    error_message = "alarm_topic_arns must be ARNs of SNS topics."
  }
}

variable "tags" {
  description = "Tags of everything in AWS."
  type        = map(string)
  default     = {}
  nullable    = false
}
