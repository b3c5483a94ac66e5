locals {
  buckets = {
    # What runs made, and versions until they are released.
    mlflow = {}
    # Artifacts of Workflows, and batches that were scored.
    workflows = { expires = { "scoring/" = 90 } }
    # Loki deletes by its own retention.
    logs = { noncurrent_days = 1 }
    # Dumps and artifacts, which not even the platform's own roles can delete while they are locked.
    backups = { lock_days = var.backup_lock_days }
  }
}

module "bucket" {
  source   = "../bucket"
  for_each = local.buckets

  name            = "${var.buckets}-${each.key}"
  kms_key         = aws_kms_key.this.arn
  access_logs     = module.access_logs.name
  lock_days       = lookup(each.value, "lock_days", 0)
  noncurrent_days = lookup(each.value, "noncurrent_days", 30)
  expires         = lookup(each.value, "expires", {})
}

module "access_logs" {
  source = "../bucket"

  name    = "${var.buckets}-access-logs"
  expires = { "" = 365 }
}
