variable "name" {
  description = "The region's name: in rules, headers and signatures, and in the names of what is created."
  type        = string
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
  description = "AWS region that everything is in."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.aws_region))
    error_message = "aws_region is \"${var.aws_region}\"; expected one of AWS's regions, such as \"eu-central-1\"."
  }
}

variable "place" {
  description = "Where the region stands, for the edge's plan: `latitude` and `longitude`, or a `continent` (AF, AN, AS, EU, NA, OC, SA)."
  type = object({
    latitude  = optional(number)
    longitude = optional(number)
    continent = optional(string)
  })
  nullable = false

  validation {
    condition     = (var.place.latitude == null) == (var.place.longitude == null) && (var.place.latitude != null || var.place.continent != null)
    error_message = "place needs latitude and longitude, or a continent."
  }

  validation {
    condition     = var.place.continent == null ? true : contains(["AF", "AN", "AS", "EU", "NA", "OC", "SA"], var.place.continent)
    error_message = "place.continent must be one of AF, AN, AS, EU, NA, OC, SA."
  }

  validation {
    condition     = abs(coalesce(var.place.latitude, 0)) <= 90 && abs(coalesce(var.place.longitude, 0)) <= 180
    error_message = "place.latitude goes from -90 to 90, place.longitude from -180 to 180."
  }
}

# What runs

variable "image" {
  description = "Image of `signpost-backend`, with a tag or digest."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("(:[A-Za-z0-9_][A-Za-z0-9_.-]*|@sha256:[0-9a-f]{64})$", var.image)) && !endswith(var.image, ":latest")
    error_message = "image is \"${var.image}\"; name a tag other than \"latest\", or a digest, so that each container runs the same."
  }
}

variable "base" {
  description = "The base: `store:NAME`, `store:DIGEST`, or `store:` for the only one that was published in the store; or a folder of the image."
  type        = string
  default     = "store:"
  nullable    = false
}

variable "store" {
  description = "Store of the experts: `s3://BUCKET`, of `module.artifacts.mirrors` or `module.artifacts.r2`."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/.*)?$", var.store))
    error_message = "store is \"${var.store}\"; a region in AWS reads s3://BUCKET or s3://BUCKET/PREFIX."
  }
}

variable "store_r2" {
  description = "Where and with which key the store is read if it is R2: `module.artifacts.r2.endpoint` and `module.artifacts.r2_read`. Null for S3, which the task's role reads."
  type = object({
    endpoint          = string
    access_key_id     = string
    secret_access_key = string
  })
  default   = null
  sensitive = true
}

variable "environment" {
  description = "Further flags of `signpost-backend` by their variables: `{ SIGNPOST_SLOTS = \"32\", SIGNPOST_TRUST_KEY = \"/keys/ada.pub.pem\" }` (a file of the image)."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = length(setintersection(keys(var.environment), ["SIGNPOST_REGION_SECRET", "SIGNPOST_METRICS_KEY", "SIGNPOST_ADMIN_KEY", "AWS_SECRET_ACCESS_KEY"])) == 0
    error_message = "environment can't hold secrets: they come from Secrets Manager."
  }
}

variable "edge_url" {
  description = "The edge that is told how the region is: `module.edge.url`."
  type        = string
  nullable    = false

  validation {
    condition     = startswith(var.edge_url, "https://")
    error_message = "edge_url is \"${var.edge_url}\"; heartbeats go to an https:// URL."
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

# On what

variable "gpus" {
  description = "GPUs of a task, one task an instance: 1, or 0 for the CPU device on instances without."
  type        = number
  default     = 1
  nullable    = false

  validation {
    condition     = contains([0, 1], var.gpus)
    error_message = "gpus is ${var.gpus}; a container uses one, or none: have more tasks."
  }
}

variable "instance_types" {
  description = "Instances that may be taken; several find a place more often. Their GPUs are held to `gpus`."
  type        = list(string)
  default     = ["g6.2xlarge", "g5.2xlarge"]
  nullable    = false

  validation {
    condition     = length(var.instance_types) > 0 && alltrue([for type in var.instance_types : can(regex("^[a-z0-9-]+\\.[a-z0-9-]+$", type))])
    error_message = "instance_types needs at least one, such as \"g6.2xlarge\"."
  }
}

variable "capacity" {
  description = "`on-demand`, or `spot`: cheaper, and taken back at two minutes' notice, which the edge rides out on another region."
  type        = string
  default     = "on-demand"
  nullable    = false

  validation {
    condition     = contains(["on-demand", "spot"], var.capacity)
    error_message = "capacity is \"${var.capacity}\"; expected \"on-demand\" or \"spot\"."
  }
}

variable "cpu_units" {
  description = "CPU of a task, 1,024 for a vCPU: an instance's, less what the sidecars and ECS take."
  type        = number
  default     = 7168
  nullable    = false

  validation {
    condition     = var.cpu_units >= 1024
    error_message = "cpu_units is ${var.cpu_units}; at least 1024 is needed, one vCPU."
  }
}

variable "memory_mib" {
  description = "Memory of a task, MiB: an instance's, less about two GiB."
  type        = number
  default     = 28672
  nullable    = false

  validation {
    condition     = var.memory_mib >= 4096
    error_message = "memory_mib is ${var.memory_mib}; at least 4096 is needed for the smallest base."
  }
}

variable "disk_gib" {
  description = "An instance's volume, GiB: the image, the base and the experts kept on disk."
  type        = number
  default     = 100
  nullable    = false

  validation {
    condition     = var.disk_gib >= 30 && var.disk_gib <= 16384
    error_message = "disk_gib is ${var.disk_gib}; ECS takes 30 to 16384."
  }
}

# How many

variable "tasks" {
  description = "Fewest and most containers. A `min` of 0 lets the region run nothing while nobody asks; the edge wakes it."
  type = object({
    min = number
    max = number
  })
  default  = { min = 1, max = 4 }
  nullable = false

  validation {
    condition     = var.tasks.min >= 0 && var.tasks.max >= 1 && var.tasks.min <= var.tasks.max
    error_message = "tasks needs 0 <= min <= max, and a max of at least 1."
  }
}

variable "requests_per_task" {
  description = "Requests, running and waiting, that a container should have: with more on average there are more containers, with fewer than a third fewer."
  type        = number
  default     = 32
  nullable    = false

  validation {
    condition     = var.requests_per_task >= 1
    error_message = "requests_per_task must be at least 1. Half of --max-sequences leaves room for what comes while a container starts."
  }
}

variable "idle_minutes" {
  description = "Minutes without any request after which a region with a `min` of 0 runs nothing."
  type        = number
  default     = 15
  nullable    = false

  validation {
    condition     = var.idle_minutes >= 5 && var.idle_minutes <= 1440 && floor(var.idle_minutes) == var.idle_minutes
    error_message = "idle_minutes is ${var.idle_minutes}; expected whole minutes from 5 (a start takes about as long) to 1440."
  }
}

variable "schedules" {
  description = "Other `min` and `max` at certain times, by name: `{ night = { cron = \"0 20 * * ? *\", timezone = \"Europe/Berlin\", min = 0, max = 0 } }`. AWS's cron has six fields."
  type = map(object({
    cron     = string
    timezone = optional(string, "UTC")
    min      = number
    max      = number
  }))
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for schedule in var.schedules : schedule.min >= 0 && schedule.min <= schedule.max && length(split(" ", schedule.cron)) == 6])
    error_message = "each of schedules needs 0 <= min <= max and a cron of six fields, such as \"0 20 * * ? *\"."
  }
}

variable "usual_start_ms" {
  description = "From the hook's call until a container answers, as it usually is: apps are told to come again after that."
  type        = number
  default     = 300000
  nullable    = false

  validation {
    condition     = var.usual_start_ms >= 1000
    error_message = "usual_start_ms is ${var.usual_start_ms}; a start takes minutes: write milliseconds."
  }
}

variable "drain_seconds" {
  description = "How long requests may take to end when a container is stopped."
  type        = number
  default     = 60
  nullable    = false

  validation {
    condition     = var.drain_seconds >= 1 && var.drain_seconds <= 105
    error_message = "drain_seconds is ${var.drain_seconds}; ECS stops a container after 120 seconds, so 105 at most."
  }
}

# How it is reached

variable "cloudflare_account_id" {
  description = "Cloudflare account that has the tunnel."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[0-9a-f]{32}$", var.cloudflare_account_id))
    error_message = "cloudflare_account_id must be the account's id, 32 hexadecimal digits."
  }
}

variable "domain" {
  description = "The region's own name, and its zone: the edge reaches it there, through a tunnel."
  type = object({
    hostname = string
    zone_id  = string
  })
  nullable = false

  validation {
    condition     = can(regex("^[0-9a-f]{32}$", var.domain.zone_id)) && can(regex("^([a-z0-9-]+\\.)+[a-z]{2,}$", var.domain.hostname))
    error_message = "domain needs a hostname, such as \"eu.llm.example.com\", and the zone's id, 32 hexadecimal digits."
  }
}

variable "network" {
  description = "A network that is there: private `subnet_ids` with a way out. Null makes one, of `cidr`."
  type = object({
    vpc_id     = string
    subnet_ids = list(string)
  })
  default = null

  validation {
    condition     = var.network == null ? true : startswith(var.network.vpc_id, "vpc-") && length(var.network.subnet_ids) > 0
    error_message = "network needs a vpc_id (vpc-...) and at least one subnet."
  }
}

variable "cidr" {
  description = "Addresses of the network that is made."
  type        = string
  default     = "10.64.0.0/16"
  nullable    = false

  validation {
    condition     = can(cidrsubnet(var.cidr, 4, 0))
    error_message = "cidr is \"${var.cidr}\"; expected a block of addresses, such as \"10.64.0.0/16\"."
  }
}

# What it tells

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

variable "sidecar_images" {
  description = "Images of the tunnel's end and of the collector that CloudWatch has the metrics from."
  type = object({
    cloudflared = optional(string, "cloudflare/cloudflared:2026.7.3")
    collector   = optional(string, "public.ecr.aws/aws-observability/aws-otel-collector:v0.43.3")
  })
  default  = {}
  nullable = false
}

variable "tags" {
  description = "Tags of everything in AWS."
  type        = map(string)
  default     = {}
  nullable    = false
}
