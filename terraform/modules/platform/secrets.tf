# An entry for each Secret of docs/secrets.md. Those that nobody needs to know are drawn here; the others are empty
# until a person writes them. No value of an entry stands in the state but that of `redis`.
locals {
  drawn = {
    gateway-key      = { random = ["GATEWAY_KEY"] }
    mlflow           = { random = ["MLFLOW_AUTH_ADMIN_PASSWORD", "MLFLOW_FLASK_SERVER_SECRET_KEY"] }
    mlflow-workflows = { random = ["MLFLOW_TRACKING_PASSWORD"], fixed = { MLFLOW_TRACKING_USERNAME = "mlflow-workflows" } }
    postgresql       = { random = ["PGPASSWORD"] }
    redis            = { random = ["REDIS_PASSWORD"] }
  }
  written_by_people = ["alertmanager-receivers", "api-keys", "argocd-oidc", "git", "git-read", "grafana", "people", "public-key", "signing-key"]

  entries  = setunion(keys(local.drawn), local.written_by_people)
  to_draw  = { for name, entry in local.drawn : name => entry if var.draw_passwords }
  draws    = toset(flatten([for name, entry in local.to_draw : [for key in entry.random : "${name}/${key}"]]))
  prefix   = "plumbline/${var.environment}"
  reads_it = "arn:aws:secretsmanager:${var.region}:${local.account}:secret:${local.prefix}/*"
}

resource "aws_secretsmanager_secret" "this" {
  #checkov:skip=CKV2_AWS_57:External Secrets carries a new value within the hour; docs/secrets.md says how one is changed.
  for_each                = local.entries
  name                    = "${local.prefix}/${each.key}"
  description             = "docs/secrets.md says what it opens and which keys it has."
  kms_key_id              = aws_kms_key.this.arn
  recovery_window_in_days = 30
}

# Letters and digits alone: some of them go into URLs.
ephemeral "aws_secretsmanager_random_password" "this" {
  provider            = aws.draws
  for_each            = local.draws
  password_length     = 40
  exclude_punctuation = true
}

resource "aws_secretsmanager_secret_version" "this" {
  for_each  = local.to_draw
  secret_id = aws_secretsmanager_secret.this[each.key].id
  # Written once: a later draw changes nothing, nor does it undo what a person wrote.
  secret_string_wo = jsonencode(merge(lookup(each.value, "fixed", {}), {
    for key in each.value.random : key => ephemeral.aws_secretsmanager_random_password.this["${each.key}/${key}"].random_password
  }))
  secret_string_wo_version = 1
}

ephemeral "aws_secretsmanager_secret_version" "postgresql" {
  provider  = aws.draws
  for_each  = setintersection(["postgresql"], keys(local.to_draw))
  secret_id = aws_secretsmanager_secret_version.this[each.key].secret_id
}

data "aws_secretsmanager_secret_version" "redis" {
  secret_id  = aws_secretsmanager_secret.this["redis"].id
  depends_on = [aws_secretsmanager_secret_version.this]
}
