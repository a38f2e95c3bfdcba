# Regions' own keys: of their metrics, their admin API, and the hook that wakes them.
resource "random_password" "own" {
  for_each = toset(["metrics", "admin", "wake"])

  length  = 48
  special = false
}

locals {
  # By the variable that a container reads it from.
  secrets = merge(
    {
      SIGNPOST_REGION_SECRET = var.region_secret
      SIGNPOST_METRICS_KEY   = random_password.own["metrics"].result
      SIGNPOST_ADMIN_KEY     = random_password.own["admin"].result
      TUNNEL_TOKEN           = data.cloudflare_zero_trust_tunnel_cloudflared_token.region.token
    },
    var.store_r2 == null ? {} : {
      AWS_ACCESS_KEY_ID     = var.store_r2.access_key_id
      AWS_SECRET_ACCESS_KEY = var.store_r2.secret_access_key
    },
  )
  # Names tell nothing; for_each takes none that is marked as secret.
  secret_names = toset(concat(
    ["SIGNPOST_REGION_SECRET", "SIGNPOST_METRICS_KEY", "SIGNPOST_ADMIN_KEY", "TUNNEL_TOKEN"],
    local.reads_r2 ? ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] : [],
  ))
  reads_r2 = nonsensitive(var.store_r2 != null)
}

resource "aws_secretsmanager_secret" "region" {
  for_each = local.secret_names

  region      = var.aws_region
  name        = "${var.prefix}/${var.name}/${each.key}"
  description = "${each.key} of Signpost's region ${var.name}"
  # Another of the same name can be made at once.
  recovery_window_in_days = 0
  tags                    = local.tags
}

resource "aws_secretsmanager_secret_version" "region" {
  for_each = local.secret_names

  region        = var.aws_region
  secret_id     = aws_secretsmanager_secret.region[each.key].id
  secret_string = local.secrets[each.key]
}
