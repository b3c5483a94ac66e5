# What an account has once, before any environment: where Terraform's state is, images and released models, the key that
# signs releases, and what GitHub's workflows may do. Both environments read the same bytes by digest from here.
terraform {
  required_version = "~> 1.11"

  # The first apply makes this bucket: docs/aws.md says how the state moves into it.
  backend "s3" {
    key          = "account.tfstate"
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
  region = local.region

  default_tags {
    tags = { Project = "plumbline", Environment = "shared" }
  }
}

data "aws_caller_identity" "here" {}

locals {
  region     = "eu-central-1"
  repository = "plumbline-dev/plumbline"
  account    = data.aws_caller_identity.here.account_id
}

# Disks of nodes and volumes, whoever makes them.
resource "aws_ebs_encryption_by_default" "this" {
  enabled = true
}

resource "aws_s3_account_public_access_block" "this" {
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}
