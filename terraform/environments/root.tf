# What every environment's root module has, linked into its folder: main.tf there holds what differs.
terraform {
  required_version = "~> 1.11"

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
    tags = { Project = "plumbline", Environment = local.environment }
  }
}

# The same, which draws passwords: `terraform test` can replace a whole provider by a mock, and mocks draw none.
provider "aws" {
  alias  = "draws"
  region = local.region
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

output "platform" {
  description = "What the platform's folder in clusters/ and its next steps need (modules/platform/outputs.tf)."
  value       = module.platform
}
