# A bucket as every one here is: closed to the public, encrypted, versioned, reached by TLS alone. While anything is in
# it, S3 refuses to delete it (no force_destroy).
resource "aws_s3_bucket" "this" {
  #checkov:skip=CKV_AWS_144:Releases and backups outlive a zone; a copy in a second region is docs/aws.md's, not done.
  #checkov:skip=CKV2_AWS_62:Nothing here waits for an object; whoever writes one says so itself.
  #checkov:skip=CKV_AWS_145:False only for the bucket of access logs: S3 delivers them to no bucket with a KMS key.
  #checkov:skip=CKV_AWS_18:False only for the bucket of access logs, whose own would never end.
  bucket              = var.name
  object_lock_enabled = var.lock_days > 0
}

resource "aws_s3_bucket_public_access_block" "this" {
  bucket = aws_s3_bucket.this.id

  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "this" {
  bucket = aws_s3_bucket.this.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_versioning" "this" {
  bucket = aws_s3_bucket.this.id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "this" {
  bucket = aws_s3_bucket.this.id

  rule {
    # One request to KMS for many objects.
    bucket_key_enabled = var.kms_key != null

    apply_server_side_encryption_by_default {
      sse_algorithm     = var.kms_key == null ? "AES256" : "aws:kms"
      kms_master_key_id = var.kms_key
    }
  }
}

resource "aws_s3_bucket_object_lock_configuration" "this" {
  count  = var.lock_days > 0 ? 1 : 0
  bucket = aws_s3_bucket.this.id

  rule {
    default_retention {
      mode = "COMPLIANCE"
      days = var.lock_days
    }
  }

  # S3 locks versions.
  depends_on = [aws_s3_bucket_versioning.this]
}

resource "aws_s3_bucket_lifecycle_configuration" "this" {
  bucket = aws_s3_bucket.this.id

  rule {
    id     = "leftovers"
    status = "Enabled"
    filter {}

    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }

    noncurrent_version_expiration {
      # A version that is still locked could not go.
      noncurrent_days = max(var.noncurrent_days, var.lock_days)
    }
  }

  dynamic "rule" {
    for_each = var.expires

    content {
      id     = "expire-${rule.key == "" ? "all" : trim(rule.key, "/")}"
      status = "Enabled"

      filter {
        prefix = rule.key
      }

      expiration {
        days = rule.value
      }
    }
  }

  depends_on = [aws_s3_bucket_versioning.this]
}

resource "aws_s3_bucket_logging" "this" {
  count  = var.access_logs == null ? 0 : 1
  bucket = aws_s3_bucket.this.id

  target_bucket = var.access_logs
  target_prefix = "${var.name}/"
}

resource "aws_s3_bucket_policy" "this" {
  bucket = aws_s3_bucket.this.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [{
        Sid       = "TlsOnly"
        Effect    = "Deny"
        Principal = { AWS = "*" }
        Action    = "s3:*"
        Resource  = ["arn:aws:s3:::${var.name}", "arn:aws:s3:::${var.name}/*"]
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      }],
      # A bucket for access logs takes them from S3, and nothing else from a service.
      var.access_logs != null ? [] : [{
        Sid       = "AccessLogs"
        Effect    = "Allow"
        Principal = { Service = "logging.s3.amazonaws.com" }
        Action    = "s3:PutObject"
        Resource  = "arn:aws:s3:::${var.name}/*"
        Condition = { StringEquals = { "aws:SourceAccount" = data.aws_caller_identity.here.account_id } }
      }],
    )
  })

  depends_on = [aws_s3_bucket_public_access_block.this]
}

data "aws_caller_identity" "here" {}
