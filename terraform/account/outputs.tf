output "state" {
  description = "Bucket of Terraform's state: `terraform init -backend-config=bucket=…` in account/ and environments/."
  value       = module.bucket["terraform"].name
}

output "releases" {
  description = "Bucket of released models."
  value       = module.bucket["releases"].name
}

output "registry" {
  description = "Where images and models are: `registry` of environment.yaml."
  value       = "${local.account}.dkr.ecr.${local.region}.amazonaws.com/plumbline"
}

output "signing_key" {
  description = "ARN of the key that signs releases."
  value       = aws_kms_key.releases.arn
}

output "github_roles" {
  description = "ARNs of the roles that workflows take on: {role: ARN}."
  value       = { for name, role in aws_iam_role.github : name => role.arn }
}
