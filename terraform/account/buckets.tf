locals {
  # Names are everybody's; the account's number makes them ours.
  buckets = {
    terraform = { noncurrent_days = 90 }
    # Write-once, by digest, the same for all environments.
    releases = { lock_days = var.release_lock_days }
  }
}

module "bucket" {
  source   = "../modules/bucket"
  for_each = local.buckets

  name            = "plumbline-${each.key}-${local.account}"
  kms_key         = aws_kms_key.shared.arn
  access_logs     = module.access_logs.name
  lock_days       = lookup(each.value, "lock_days", 0)
  noncurrent_days = lookup(each.value, "noncurrent_days", 30)
}

module "access_logs" {
  source = "../modules/bucket"

  name    = "plumbline-access-logs-${local.account}"
  expires = { "" = 365 }
}
