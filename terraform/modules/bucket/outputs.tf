output "name" {
  description = "The bucket's name."
  value       = aws_s3_bucket.this.bucket

  # Logs are delivered to a bucket whose policy says so.
  depends_on = [aws_s3_bucket_policy.this]
}

output "guards" {
  description = "What holds for the bucket, for tests of whoever calls this module."
  value = {
    blocked = alltrue([
      aws_s3_bucket_public_access_block.this.block_public_acls,
      aws_s3_bucket_public_access_block.this.block_public_policy,
      aws_s3_bucket_public_access_block.this.ignore_public_acls,
      aws_s3_bucket_public_access_block.this.restrict_public_buckets,
    ])
    encrypted = one(one(aws_s3_bucket_server_side_encryption_configuration.this.rule).apply_server_side_encryption_by_default).sse_algorithm
    versioned = one(aws_s3_bucket_versioning.this.versioning_configuration).status == "Enabled"
    locked    = aws_s3_bucket.this.object_lock_enabled
  }
}
