variable "environment" {
  description = "The environment's name: that of its folder in clusters/."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,19}$", var.environment))
    error_message = "environment: expected up to 20 lower-case letters, digits and hyphens, as the folder in clusters/ is called."
  }
}

variable "region" {
  description = "Of AWS, where all of it stands."
  type        = string

  validation {
    condition     = can(regex("^(af|ap|ca|eu|il|me|mx|sa|us)(-[a-z]+)+-[0-9]$", var.region))
    error_message = "region: expected a region of AWS such as us-east-1, with at least three zones (not a zone such as us-east-1a, not one of China or GovCloud, whose ARNs differ)."
  }
}

variable "domain" {
  description = "Of names such as argocd.<environment>.<domain>. Delegate <environment>.<domain> to `name_servers`."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$", var.domain))
    error_message = "domain: expected a name such as plumbline.example.com, without https:// and without a dot at its end."
  }
}

variable "buckets" {
  description = "What the names of its buckets begin with."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,40}$", var.buckets))
    error_message = "buckets: expected 2 to 41 lower-case letters, digits and hyphens; the names are everybody's, so take your own."
  }
}

variable "cidr" {
  description = "Addresses of the VPC. Network policies let pods reach databases in 10.0.0.0/8 alone."
  type        = string

  validation {
    condition     = can(regex("^10\\.[0-9]+\\.0\\.0/16$", var.cidr)) && can(cidrhost(var.cidr, 0))
    error_message = "cidr: expected a /16 of 10.0.0.0/8, such as 10.40.0.0/16, that no other VPC in reach has."
  }
}

variable "kubernetes" {
  description = "Minor version of Kubernetes."
  type        = string
  default     = "1.34"

  validation {
    condition     = can(regex("^1\\.[0-9]+$", var.kubernetes)) && try(tonumber(split(".", var.kubernetes)[1]) >= 34, false)
    error_message = "kubernetes: expected 1.34 or newer, written \"1.34\"; the manifests are tried with nothing older."
  }
}

variable "admins" {
  description = "ARNs of the IAM roles or users that administer the cluster; yours among them, or you can't bootstrap it."
  type        = list(string)

  validation {
    condition     = length(var.admins) > 0 && alltrue([for arn in var.admins : can(regex("^arn:aws:iam::[0-9]{12}:(role|user)/.+$", arn))])
    error_message = "admins: expected at least one ARN such as arn:aws:iam::123456789012:role/platform; `aws sts get-caller-identity` says who you are (a role there is arn:aws:sts::…:assumed-role/NAME/…: write arn:aws:iam::…:role/NAME)."
  }
}

variable "api_cidrs" {
  description = "Networks that may reach the API server from outside the VPC; none: the private endpoint alone."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for cidr in var.api_cidrs : can(cidrhost(cidr, 0)) && !endswith(cidr, "/0")])
    error_message = "api_cidrs: expected networks such as 203.0.113.0/24, and never the whole internet; for none write [] and come through the VPC."
  }
}

variable "nodes" {
  description = "Of each of the three zones: instance types, and how many the autoscaler keeps there."
  type = object({
    types = list(string)
    least = number
    most  = number
  })

  validation {
    condition     = var.nodes.least >= 1 && var.nodes.most >= var.nodes.least && length(var.nodes.types) > 0
    error_message = "nodes: expected types such as [\"m7i.xlarge\"] and 1 <= least <= most, counted per zone."
  }
}

variable "nat_per_zone" {
  description = "A NAT gateway in each zone, so that a lost zone takes no other one's way out with it."
  type        = bool
}

variable "database" {
  description = "PostgreSQL: instance class, GiB at first and at most, days of backups, and whether a second zone stands by."
  type = object({
    class       = string
    storage     = number
    most        = number
    backup_days = number
    multi_az    = bool
  })

  validation {
    condition     = startswith(var.database.class, "db.") && var.database.storage >= 20 && var.database.most > var.database.storage
    error_message = "database: expected a class such as db.m7g.large and 20 <= storage < most, in GiB."
  }

  validation {
    condition     = var.database.backup_days >= 7 && var.database.backup_days <= 35
    error_message = "database.backup_days: expected 7 to 35, what RDS keeps."
  }
}

variable "cache" {
  description = "Redis: node type, and how many nodes in as many zones (the first writes, one of the others takes over)."
  type = object({
    type  = string
    nodes = number
  })

  validation {
    condition     = startswith(var.cache.type, "cache.") && var.cache.nodes >= 2 && var.cache.nodes <= 3
    error_message = "cache: expected a type such as cache.t4g.small and 2 or 3 nodes; one alone has nobody to take over."
  }
}

variable "backup_lock_days" {
  description = "How long nobody, the account's owner included, can delete a backup."
  type        = number
  default     = 14
}

variable "protected" {
  description = "Whether the database refuses to be deleted."
  type        = bool
  default     = true
}

variable "alerts" {
  description = "E-mail address that alarms and the budget's warnings go to."
  type        = string

  validation {
    condition     = can(regex("^[^@ ]+@[^@ ]+\\.[^@ ]+$", var.alerts))
    error_message = "alerts: expected an e-mail address that somebody reads, such as platform@example.com."
  }
}

variable "budget" {
  description = "Monthly costs in US dollars from which on mails are sent."
  type        = number

  validation {
    condition     = var.budget > 0
    error_message = "budget: expected US dollars a month, above 0."
  }
}

variable "draw_passwords" {
  description = "Secrets Manager draws the first passwords. False is for `terraform test`: its mocks have no ephemeral resources."
  type        = bool
  default     = true
}
