terraform {
  required_version = "~> 1.11"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.100"
      # The same provider once more: mocks of `terraform test` know no ephemeral resources, and leave this one be.
      configuration_aliases = [aws.draws]
    }
  }
}
