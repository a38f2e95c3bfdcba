variable "cloudflare_account_id" {
  description = "Cloudflare account of the edge and the store."
  type        = string
}

variable "workers_dev_subdomain" {
  description = "The account's subdomain of workers.dev: the edge is at `signpost.<it>.workers.dev`."
  type        = string
}

variable "image_tag" {
  description = "Tag of the image of `signpost-lambda` in the repository: `lambda-0.1.0`."
  type        = string
}
