variable "cloudflare_account_id" {
  description = "Cloudflare account of the edge, the store and the tunnel."
  type        = string
}

variable "zone_id" {
  description = "Zone of `domain` in that account."
  type        = string
}

variable "domain" {
  description = "Where apps find the edge, such as `llm.example.com`; the region is at `eu-llm.example.com`."
  type        = string
}

variable "image" {
  description = "Image of `signpost-backend`, with a tag or digest."
  type        = string
}
