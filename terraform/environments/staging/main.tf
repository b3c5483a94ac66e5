# staging: what it differs in. What it is made of stands in modules/platform.
terraform {
  required_version = "~> 1.11"

  # terraform init -backend-config=bucket=$(terraform -chdir=../../account output -raw state)
  backend "s3" {
    key          = "staging.tfstate"
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
    tags = { Project = "plumbline", Environment = "staging" }
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

  environment = "staging"
  region      = "eu-central-1"
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

output "platform" {
  description = "What the platform's folder in clusters/ and its next steps need (modules/platform/outputs.tf)."
  value       = module.platform
}
