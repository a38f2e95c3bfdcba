variable "name" {
  description = "What the buckets, repositories and tokens are called, and the mirrors by this and their AWS region."
  type        = string
  default     = "signpost"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,30}[a-z0-9]$", var.name))
    error_message = "name is \"${var.name}\"; buckets are called by it, so 3 to 32 lower-case letters, digits and \"-\", a letter first."
  }
}

variable "cloudflare_account_id" {
  description = "Cloudflare account that has the R2 bucket."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[0-9a-f]{32}$", var.cloudflare_account_id))
    error_message = "cloudflare_account_id must be the account's id, 32 hexadecimal digits: it stands in the dashboard's address."
  }
}

variable "r2_location" {
  description = "Where R2 is asked to keep the bucket: `apac`, `eeur`, `enam`, `weur`, `wnam` or `oc`. Near the packer, since regions read their mirrors."
  type        = string
  default     = "weur"
  nullable    = false

  validation {
    condition     = contains(["apac", "eeur", "enam", "weur", "wnam", "oc"], var.r2_location)
    error_message = "r2_location is \"${var.r2_location}\"; R2 knows apac, eeur, enam, weur, wnam and oc."
  }
}

variable "mirror_regions" {
  description = "AWS regions that get a bucket of the same objects, and a repository for images. Without any, regions read R2."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for region in var.mirror_regions : can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", region))])
    error_message = "mirror_regions must be AWS regions, such as \"eu-central-1\"."
  }
}

variable "old_version_days" {
  description = "Days that a mirror keeps what was overwritten or deleted: how far back a wrong `gc` or catalogue can be undone by hand."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = var.old_version_days >= 1 && floor(var.old_version_days) == var.old_version_days
    error_message = "old_version_days must be a whole number of days, at least 1."
  }
}

variable "unfinished_upload_days" {
  description = "Days after which an upload that nobody resumed is thrown away. `signpost-packer publish` can go on with it until then."
  type        = number
  default     = 1
  nullable    = false

  validation {
    condition     = var.unfinished_upload_days >= 1 && floor(var.unfinished_upload_days) == var.unfinished_upload_days
    error_message = "unfinished_upload_days must be a whole number of days, at least 1."
  }
}

variable "tags" {
  description = "Tags of everything in AWS."
  type        = map(string)
  default     = {}
  nullable    = false
}
