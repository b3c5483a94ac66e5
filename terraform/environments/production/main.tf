# production: what it differs in. What it is made of stands in modules/platform, what all have in ../root.tf.
terraform {
  # terraform init -backend-config=bucket=$(terraform -chdir=../../account output -raw state)
  backend "s3" {
    key          = "production.tfstate"
    region       = "eu-central-1"
    encrypt      = true
    use_lockfile = true
  }
}

locals {
  environment = "production"
  region      = "eu-central-1"
}

module "platform" {
  source    = "../../modules/platform"
  providers = { aws = aws, aws.draws = aws.draws }

  environment = local.environment
  region      = local.region
  domain      = "plumbline.internal"
  buckets     = "plumbline-production"
  cidr        = "10.41.0.0/16"

  admins         = var.admins
  alerts         = var.alerts
  api_cidrs      = var.api_cidrs
  draw_passwords = var.draw_passwords

  # Two nodes in each zone: serving survives the loss of a node, and of a zone, without waiting for a new one.
  nodes            = { types = ["m7i.2xlarge", "m6i.2xlarge"], least = 2, most = 6 }
  nat_per_zone     = true
  database         = { class = "db.m7g.large", storage = 100, most = 1000, backup_days = 35, multi_az = true }
  cache            = { type = "cache.m7g.large", nodes = 3 }
  backup_lock_days = 35
  budget           = 4000
}
