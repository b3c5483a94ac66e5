# GitHub's workflows sign in by what GitHub says of them; no key of AWS stands there.
resource "aws_iam_openid_connect_provider" "github" {
  url            = "https://token.actions.githubusercontent.com"
  client_id_list = ["sts.amazonaws.com"]
}

locals {
  images = [for name, repository in aws_ecr_repository.this : repository.arn if name != "models"]
  pull   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer", "ecr:DescribeImages"]
  push   = ["ecr:InitiateLayerUpload", "ecr:UploadLayerPart", "ecr:CompleteLayerUpload", "ecr:PutImage"]
  # {role: from which ref, and what it may do with images}.
  github = {
    # Builds of main push images.
    images = { subject = "ref:refs/heads/main", allow = concat(local.pull, local.push) }
    # Pull requests of this repository, not of forks, compare theirs with those of main.
    images-read = { subject = "pull_request", allow = local.pull }
  }
}

resource "aws_iam_role" "github" {
  for_each = local.github
  name     = "plumbline-github-${each.key}"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Federated = aws_iam_openid_connect_provider.github.arn }
      Action    = "sts:AssumeRoleWithWebIdentity"
      Condition = {
        StringEquals = {
          "token.actions.githubusercontent.com:aud" = "sts.amazonaws.com"
          "token.actions.githubusercontent.com:sub" = "repo:${local.repository}:${each.value.subject}"
        }
      }
    }]
  })
}

resource "aws_iam_role_policy" "github" {
  for_each = local.github
  role     = aws_iam_role.github[each.key].id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      # A token for the registry as a whole: AWS offers no resource to name.
      { Effect = "Allow", Action = ["ecr:GetAuthorizationToken"], Resource = "*" },
      { Effect = "Allow", Action = each.value.allow, Resource = local.images },
    ]
  })
}
