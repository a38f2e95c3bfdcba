variable "cloudflare_account_id" {
  description = "Cloudflare account of the edge, the store and the tunnel."
  type        = string
}

variable "zone_id" {
  description = "Zone of `domain` in that account."
  type        = string
}

variable "domain" {
  description = "Where apps find the edge, such as `llm.example.com`; the regions are at `eu-llm.example.com` and so on."
  type        = string
}

variable "image_tag" {
  description = "Tag of the image of `signpost-backend` in each region's repository: `0.1.0`."
  type        = string
}
