variable "name" {
  description = "What the Worker is called; its namespace and queue by this, too."
  type        = string
  default     = "signpost"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,40}[a-z0-9]$", var.name))
    error_message = "name is \"${var.name}\"; a Worker's is 3 to 42 lower-case letters, digits and \"-\", a letter first."
  }
}

variable "cloudflare_account_id" {
  description = "Cloudflare account that has the Worker."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[0-9a-f]{32}$", var.cloudflare_account_id))
    error_message = "cloudflare_account_id must be the account's id, 32 hexadecimal digits: it stands in the dashboard's address."
  }
}

variable "bucket" {
  description = "R2 bucket that the Worker reads the catalogue from: `module.artifacts.bucket`."
  type        = string
  nullable    = false
}

variable "domain" {
  description = "Where apps find the edge: a `hostname` in a zone of the account. Null for the Worker's own at workers.dev."
  type = object({
    hostname = string
    zone_id  = string
  })
  default = null

  validation {
    condition     = var.domain == null ? true : can(regex("^[0-9a-f]{32}$", var.domain.zone_id)) && can(regex("^([a-z0-9-]+\\.)+[a-z]{2,}$", var.domain.hostname))
    error_message = "domain needs a hostname, such as \"llm.example.com\", and the zone's id, 32 hexadecimal digits."
  }
}

variable "workers_dev_subdomain" {
  description = "The account's subdomain of workers.dev (`acme` of acme.workers.dev): regions tell the edge how they are there. Needed without a `domain`."
  type        = string
  default     = null

  validation {
    condition     = var.workers_dev_subdomain == null ? var.domain != null : can(regex("^[a-z0-9-]+$", var.workers_dev_subdomain))
    error_message = "Without a domain the edge is at workers.dev: set workers_dev_subdomain to the account's subdomain there (Workers & Pages in the dashboard), without \".workers.dev\"."
  }
}

variable "variables" {
  description = "Variables of the Worker beyond what wrangler.toml has, or in its place: `{ FIRST_TOKEN_TIMEOUT_MS = \"120000\" }`. `REGIONS` is made of the regions."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = length(setintersection(keys(var.variables), ["REGIONS", "REGION_SECRET", "ADMIN_KEY_HASHES", "API_KEY_HASHES", "METRICS_KEY_HASHES"])) == 0
    error_message = "variables can't set REGIONS, which is made of the regions, nor what is secret: that is set with `wrangler secret put`."
  }
}

variable "analytics_dataset" {
  description = "Analytics Engine dataset that takes a data point of each decision; it is made by the first. Null for none."
  type        = string
  default     = null

  validation {
    condition     = var.analytics_dataset == null ? true : can(regex("^[a-zA-Z0-9_]{1,64}$", var.analytics_dataset))
    error_message = "analytics_dataset is a name in letters, digits and \"_\", such as \"signpost_decisions\"."
  }
}

variable "region_secrets" {
  description = "Generations, by names of yours, of the secret that edge and regions share: each side signs with its first, and accepts all of its. One each, but while it is changed (docs/operations.md): an apply for each step."
  type = object({
    regions = list(string)
    edge    = list(string)
  })
  default  = { regions = ["1"], edge = ["1"] }
  nullable = false

  validation {
    condition     = alltrue([for side in values(var.region_secrets) : length(side) >= 1 && length(side) <= 2 && length(distinct(side)) == length(side)])
    error_message = "region_secrets has one generation for each side, or two different ones while the secret is changed."
  }

  validation {
    condition     = try(contains(var.region_secrets.edge, var.region_secrets.regions[0]) && contains(var.region_secrets.regions, var.region_secrets.edge[0]), true)
    error_message = "region_secrets has one side sign with what the other doesn't accept: change one side at a time, the regions first."
  }
}
