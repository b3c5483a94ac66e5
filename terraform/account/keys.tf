resource "aws_kms_key" "shared" {
  description             = "State, images and releases of plumbline"
  enable_key_rotation     = true
  deletion_window_in_days = 30
  policy                  = jsonencode({ Version = "2012-10-17", Statement = [local.roles_of_the_account] })
}

resource "aws_kms_alias" "shared" {
  name          = "alias/plumbline-shared"
  target_key_id = aws_kms_key.shared.key_id
}

# The private half never leaves KMS. Who may sign stands here alone: no policy of a role adds to it.
resource "aws_kms_key" "releases" {
  #checkov:skip=CKV_AWS_7:KMS rotates no asymmetric key; servers believe several public keys at once (docs/secrets.md).
  description              = "Signs statements about releases of plumbline"
  customer_master_key_spec = "ECC_NIST_P256"
  key_usage                = "SIGN_VERIFY"
  deletion_window_in_days  = 30

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [
        {
          Sid       = "Administer"
          Effect    = "Allow"
          Principal = { AWS = "arn:aws:iam::${local.account}:root" }
          Action = [
            "kms:CancelKeyDeletion", "kms:CreateAlias", "kms:DeleteAlias", "kms:DescribeKey", "kms:DisableKey", "kms:EnableKey",
            "kms:GetKeyPolicy", "kms:GetKeyRotationStatus", "kms:ListKeyPolicies", "kms:ListResourceTags", "kms:PutKeyPolicy",
            "kms:ScheduleKeyDeletion", "kms:TagResource", "kms:UntagResource", "kms:UpdateAlias", "kms:UpdateKeyDescription",
          ]
          Resource = "*"
        },
        {
          Sid       = "Check"
          Effect    = "Allow"
          Principal = { AWS = "arn:aws:iam::${local.account}:root" }
          Action    = ["kms:GetPublicKey", "kms:Verify"]
          Resource  = "*"
        },
      ],
      length(var.signers) == 0 ? [] : [{
        Sid       = "Sign"
        Effect    = "Allow"
        Principal = { AWS = var.signers }
        Action    = "kms:Sign"
        Resource  = "*"
        Condition = { StringEquals = { "kms:SigningAlgorithm" = "ECDSA_SHA_256" } }
      }],
    )
  })
}

resource "aws_kms_alias" "releases" {
  name          = "alias/plumbline-releases"
  target_key_id = aws_kms_key.releases.key_id
}

locals {
  roles_of_the_account = {
    Sid       = "RolesOfTheAccount"
    Effect    = "Allow"
    Principal = { AWS = "arn:aws:iam::${local.account}:root" }
    Action    = "kms:*"
    Resource  = "*"
  }
}
