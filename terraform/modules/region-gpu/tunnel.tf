# The region's way in. Whoever knows the name may knock: requests without the edge's signature are answered 401.
resource "cloudflare_zero_trust_tunnel_cloudflared" "region" {
  account_id = var.cloudflare_account_id
  name       = local.full_name
  config_src = "cloudflare"
}

resource "cloudflare_zero_trust_tunnel_cloudflared_config" "region" {
  account_id = var.cloudflare_account_id
  tunnel_id  = cloudflare_zero_trust_tunnel_cloudflared.region.id

  config = {
    ingress = [
      {
        hostname = var.domain.hostname
        service  = "http://127.0.0.1:${local.port}"
        origin_request = {
          # Shorter than the edge waits, so that it asks the next region rather than this one's silence.
          connect_timeout = 5
        }
      },
      { service = "http_status:404" },
    ]
  }
}

data "cloudflare_zero_trust_tunnel_cloudflared_token" "region" {
  account_id = var.cloudflare_account_id
  tunnel_id  = cloudflare_zero_trust_tunnel_cloudflared.region.id
}

resource "cloudflare_dns_record" "region" {
  zone_id = var.domain.zone_id
  name    = var.domain.hostname
  type    = "CNAME"
  content = "${cloudflare_zero_trust_tunnel_cloudflared.region.id}.cfargotunnel.com"
  proxied = true
  # Automatic, as it must be for a proxied one.
  ttl     = 1
  comment = "Signpost region ${var.name}"
}
