# production: what it differs in. What it is made of stands in modules/platform.
terraform {
  required_version = "~> 1.11"

  # terraform init -backend-config=bucket=$(terraform -chdir=../../account output -raw state)
  backend "s3" {
    key          = "production.tfstate"
    region       = "eu-central-1"
    encrypt      = true
    use_lockfile = true
  }

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "5.100.0"
    }
  }
}

provider "aws" {
  region = "eu-central-1"

  default_tags {
    tags = { Project = "plumbline", Environment = "production" }
  }
}

# The same, which draws passwords: `terraform test` can replace a whole provider by a mock, and mocks draw none.
provider "aws" {
  alias  = "draws"
  region = "eu-central-1"
}

variable "admins" {
  description = "ARNs of the IAM roles or users that administer the cluster."
  type        = list(string)
}

variable "alerts" {
  description = "E-mail address that alarms and the budget's warnings go to."
  type        = string
}

variable "api_cidrs" {
  description = "Networks that may reach the API server from outside the VPC."
  type        = list(string)
  default     = []
}

variable "draw_passwords" {
  description = "False in tests alone."
  type        = bool
  default     = true
}

module "platform" {
  source    = "../../modules/platform"
  providers = { aws = aws, aws.draws = aws.draws }

  environment = "production"
  region      = "eu-central-1"
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

output "platform" {
  description = "What the platform's folder in clusters/ and its next steps need (modules/platform/outputs.tf)."
  value       = module.platform
}
