variable "name" {
  description = "The bucket's name, which no other bucket of AWS has."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$", var.name))
    error_message = "name: expected 3 to 63 lower-case letters, digits and hyphens; shorten `buckets`."
  }
}

variable "kms_key" {
  description = "ARN of the key that its objects are encrypted with; null: S3's own, which access logs need."
  type        = string
  default     = null
}

variable "noncurrent_days" {
  description = "How long a replaced or deleted version can still be brought back."
  type        = number
  default     = 30

  validation {
    condition     = var.noncurrent_days >= 1
    error_message = "noncurrent_days: expected 1 or more; a bucket without a second chance is not offered."
  }
}

variable "expires" {
  description = "{prefix: days after which its objects go}; what is not named stays."
  type        = map(number)
  default     = {}
}

variable "lock_days" {
  description = "How long nobody changes or deletes an object (object lock, compliance mode); 0: no lock."
  type        = number
  default     = 0

  validation {
    condition     = var.lock_days >= 0 && var.lock_days <= 3650
    error_message = "lock_days: expected 0 to 3650; a lock in compliance mode can't be shortened later."
  }
}

variable "access_logs" {
  description = "Bucket that tells who read and wrote; null for that bucket itself."
  type        = string
  default     = null
}
