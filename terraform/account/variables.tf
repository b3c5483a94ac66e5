variable "signers" {
  description = "ARNs of the IAM roles that may sign releases; whoever is not named can check a signature and make none."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.signers : can(regex("^arn:aws:iam::[0-9]{12}:role/[^*]+$", arn))])
    error_message = "signers: expected ARNs of roles such as arn:aws:iam::123456789012:role/plumbline-signer, none with a *."
  }
}

variable "release_lock_days" {
  description = "How long nobody, the account's owner included, can change or delete a release."
  type        = number
  default     = 365

  validation {
    condition     = var.release_lock_days >= 30
    error_message = "release_lock_days: expected 30 or more; new pods read a release as long as it is served."
  }
}
