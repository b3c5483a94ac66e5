# staging: what it differs in. What it is made of stands in modules/platform, what all have in ../root.tf.
terraform {
  # terraform init -backend-config=bucket=$(terraform -chdir=../../account output -raw state)
  backend "s3" {
    key          = "staging.tfstate"
    region       = "eu-central-1"
    encrypt      = true
    use_lockfile = true
  }
}

locals {
  environment = "staging"
  region      = "eu-central-1"
}

module "platform" {
  source    = "../../modules/platform"
  providers = { aws = aws, aws.draws = aws.draws }

  environment = local.environment
  region      = local.region
  domain      = "plumbline.internal"
  buckets     = "plumbline-staging"
  cidr        = "10.40.0.0/16"

  admins         = var.admins
  alerts         = var.alerts
  api_cidrs      = var.api_cidrs
  draw_passwords = var.draw_passwords

  # Three nodes; a fourth to sixth while a canary and a training run together.
  nodes        = { types = ["m7i.xlarge", "m6i.xlarge"], least = 1, most = 2 }
  nat_per_zone = false
  database     = { class = "db.t4g.medium", storage = 30, most = 100, backup_days = 7, multi_az = false }
  cache        = { type = "cache.t4g.small", nodes = 2 }
  protected    = false
  budget       = 1000
}
