# What AWS would answer, as far as a shape is asked for: ARNs, names of zones, addresses.
mock_data "aws_caller_identity" {
  defaults = { account_id = "123456789012" }
}

mock_data "aws_region" {
  defaults = { name = "us-east-1" }
}

mock_data "aws_availability_zones" {
  # Four, and not in order.
  defaults = { names = ["us-east-1c", "us-east-1a", "us-east-1b", "us-east-1d"] }
}

mock_data "aws_eks_addon_version" {
  defaults = { version = "v1.0.0-eksbuild.1" }
}

mock_data "aws_secretsmanager_secret_version" {
  defaults = { secret_string = "{\"REDIS_PASSWORD\": \"0123456789abcdef0123456789abcdef\"}" }
}

mock_resource "aws_kms_key" {
  defaults = { arn = "arn:aws:kms:us-east-1:123456789012:key/11111111-2222-3333-4444-555555555555" }
}

mock_resource "aws_iam_role" {
  defaults = { arn = "arn:aws:iam::123456789012:role/mocked" }
}

mock_resource "aws_iam_openid_connect_provider" {
  defaults = { arn = "arn:aws:iam::123456789012:oidc-provider/token.actions.githubusercontent.com" }
}

mock_resource "aws_cloudwatch_log_group" {
  defaults = { arn = "arn:aws:logs:us-east-1:123456789012:log-group:mocked" }
}

mock_resource "aws_sns_topic" {
  defaults = { arn = "arn:aws:sns:us-east-1:123456789012:mocked" }
}

mock_resource "aws_vpc" {
  defaults = { arn = "arn:aws:ec2:us-east-1:123456789012:vpc/vpc-0123456789abcdef0" }
}

mock_resource "aws_route53_zone" {
  defaults = {
    arn          = "arn:aws:route53:::hostedzone/Z0123456789ABCDEFGHIJ"
    name_servers = ["ns-1.awsdns-01.org", "ns-2.awsdns-02.com"]
  }
}

mock_resource "aws_ecr_repository" {
  defaults = { arn = "arn:aws:ecr:us-east-1:123456789012:repository/mocked" }
}

mock_resource "aws_launch_template" {
  defaults = { id = "lt-0123456789abcdef0", latest_version = 1 }
}

mock_resource "aws_eks_cluster" {
  defaults = { vpc_config = { cluster_security_group_id = "sg-0123456789abcdef0" } }
}

mock_resource "aws_elasticache_replication_group" {
  defaults = { primary_endpoint_address = "master.mocked.abc123.use1.cache.amazonaws.com" }
}

mock_resource "aws_db_instance" {
  defaults = { address = "mocked.abc123.us-east-1.rds.amazonaws.com" }
}

mock_resource "aws_acm_certificate" {
  defaults = {
    arn = "arn:aws:acm:us-east-1:123456789012:certificate/11111111-2222-3333-4444-555555555555"
    domain_validation_options = [{
      domain_name           = "mocked"
      resource_record_name  = "_1.mocked"
      resource_record_type  = "CNAME"
      resource_record_value = "_2.acm-validations.aws"
    }]
  }
}
