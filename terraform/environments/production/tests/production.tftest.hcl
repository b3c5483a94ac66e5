mock_provider "aws" {
  source          = "../../mocks"
  override_during = plan
}

provider "aws" {
  alias                       = "draws"
  region                      = "eu-central-1"
  access_key                  = "none"
  secret_key                  = "none"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_requesting_account_id  = true
}

override_data {
  target          = module.platform.data.aws_region.here
  values          = { name = "eu-central-1" }
  override_during = plan
}

variables {
  admins         = ["arn:aws:iam::123456789012:role/platform"]
  alerts         = "platform@example.com"
  api_cidrs      = ["203.0.113.0/24"]
  draw_passwords = false
}

run "planned" {
  command = plan

  assert {
    condition     = output.platform.environment.name == "production"
    error_message = "It is the environment that its folder is called for."
  }
}
