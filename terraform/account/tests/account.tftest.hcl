mock_provider "aws" {
  source          = "../mocks"
  override_during = plan
}

run "made" {
  command = plan

  assert {
    condition     = alltrue([for bucket in concat(values(module.bucket), [module.access_logs]) : bucket.guards.blocked && bucket.guards.versioned])
    error_message = "Every bucket is closed to the public and keeps versions."
  }

  assert {
    condition     = module.bucket["releases"].guards.locked && module.bucket["releases"].guards.encrypted == "aws:kms" && module.bucket["terraform"].guards.encrypted == "aws:kms"
    error_message = "Releases are write-once; they and the state are encrypted with a key of ours."
  }

  assert {
    condition     = alltrue([for repository in aws_ecr_repository.this : repository.image_tag_mutability == "IMMUTABLE" && repository.image_scanning_configuration[0].scan_on_push])
    error_message = "No tag of an image is moved, and every image is scanned."
  }

  assert {
    condition     = aws_kms_key.releases.key_usage == "SIGN_VERIFY" && aws_kms_key.releases.customer_master_key_spec == "ECC_NIST_P256"
    error_message = "Releases are signed with an asymmetric key."
  }

  assert {
    condition     = !strcontains(aws_kms_key.releases.policy, "kms:Sign") && !strcontains(aws_kms_key.releases.policy, "kms:*")
    error_message = "Nobody signs who is not named."
  }

  assert {
    condition     = alltrue([for role in aws_iam_role.github : !strcontains(role.assume_role_policy, "*")])
    error_message = "A role is for one repository and one kind of run."
  }

  assert {
    condition     = jsondecode(aws_iam_role.github["images"].assume_role_policy).Statement[0].Condition.StringEquals["token.actions.githubusercontent.com:sub"] == "repo:${local.repository}:ref:refs/heads/main"
    error_message = "Only main pushes images."
  }

  assert {
    condition = alltrue(flatten([for policy in aws_iam_role_policy.github : [for statement in jsondecode(policy.policy).Statement :
      [for action in flatten([statement.Action]) : !strcontains(action, "*") && (statement.Resource != "*" || action == "ecr:GetAuthorizationToken")]
    ]]))
    error_message = "No role of GitHub's workflows has a wildcard but the registry's token."
  }
}

run "signers" {
  command = plan
  variables {
    signers = ["arn:aws:iam::123456789012:role/plumbline-signer"]
  }
  assert {
    condition     = length(regexall("kms:Sign\"", aws_kms_key.releases.policy)) == 1 && strcontains(aws_kms_key.releases.policy, "role/plumbline-signer")
    error_message = "Who is named signs, and nobody else."
  }
}

run "anybody_is_no_signer" {
  command = plan
  variables {
    signers           = ["arn:aws:iam::123456789012:role/*"]
    release_lock_days = 1
  }
  expect_failures = [var.signers, var.release_lock_days]
}
