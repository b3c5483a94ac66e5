# What must hold whatever an environment's values are, and how wrong values are refused. AWS is asked nothing.
mock_provider "aws" {
  source = "../../mocks"
}

# Asked nothing either, since `draw_passwords` is false.
provider "aws" {
  alias                       = "draws"
  region                      = "us-east-1"
  access_key                  = "none"
  secret_key                  = "none"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_requesting_account_id  = true
}

variables {
  environment    = "trial"
  region         = "us-east-1"
  domain         = "example.com"
  buckets        = "acme-trial"
  cidr           = "10.9.0.0/16"
  admins         = ["arn:aws:iam::123456789012:role/platform"]
  alerts         = "platform@example.com"
  nodes          = { types = ["m7i.xlarge"], least = 1, most = 2 }
  nat_per_zone   = false
  database       = { class = "db.t4g.medium", storage = 30, most = 100, backup_days = 7, multi_az = false }
  cache          = { type = "cache.t4g.small", nodes = 2 }
  budget         = 1000
  draw_passwords = false
}

run "made" {
  # Applied, since ids tell subnets and route tables apart.
  command = apply

  assert {
    condition = alltrue([for subnets in [aws_subnet.private, aws_subnet.public, aws_subnet.data] :
    toset([for subnet in subnets : subnet.availability_zone]) == toset(["us-east-1a", "us-east-1b", "us-east-1c"])])
    error_message = "Nodes, load balancers and databases each stand in three zones."
  }

  assert {
    condition     = length(distinct([for subnet in concat(values(aws_subnet.private), values(aws_subnet.public), values(aws_subnet.data)) : subnet.cidr_block])) == 9
    error_message = "No two subnets have the same addresses."
  }

  assert {
    condition     = alltrue([for group in aws_eks_node_group.this : length(group.subnet_ids) == 1 && group.scaling_config[0].min_size == 1]) && length(aws_eks_node_group.this) == 3
    error_message = "Each zone has nodes of its own: three, where each zone keeps one."
  }

  assert {
    condition     = length(aws_nat_gateway.this) == 1 && alltrue([for route in aws_route.private : route.nat_gateway_id == aws_nat_gateway.this["us-east-1a"].id])
    error_message = "One NAT gateway is everybody's way out, unless each zone is to have one."
  }

  # Cluster
  assert {
    condition     = aws_eks_cluster.this.vpc_config[0].endpoint_private_access && !aws_eks_cluster.this.vpc_config[0].endpoint_public_access
    error_message = "The API server is reached from the VPC, and from nowhere else unless `api_cidrs` says so."
  }

  assert {
    condition     = contains(aws_eks_cluster.this.encryption_config[0].resources, "secrets") && aws_eks_cluster.this.encryption_config[0].provider[0].key_arn == aws_kms_key.this.arn
    error_message = "Secrets in etcd are encrypted with the environment's key."
  }

  assert {
    condition     = aws_eks_cluster.this.access_config[0].authentication_mode == "API" && !aws_eks_cluster.this.access_config[0].bootstrap_cluster_creator_admin_permissions
    error_message = "Access is by access entries alone; who made the cluster is no admin by that."
  }

  assert {
    condition     = jsondecode(aws_eks_addon.before_nodes["vpc-cni"].configuration_values).enableNetworkPolicy == "true"
    error_message = "NetworkPolicies are enforced."
  }

  assert {
    condition     = jsondecode(aws_eks_addon.after_nodes["aws-ebs-csi-driver"].configuration_values).defaultStorageClass.enabled
    error_message = "A claim without a class finds the default StorageClass."
  }

  assert {
    condition     = aws_launch_template.node.metadata_options[0].http_tokens == "required" && aws_launch_template.node.metadata_options[0].http_put_response_hop_limit == 1
    error_message = "No pod reaches the role of its node."
  }

  # Databases
  assert {
    condition     = !aws_db_instance.this.publicly_accessible && aws_db_instance.this.storage_encrypted && toset(aws_db_subnet_group.this.subnet_ids) == toset([for subnet in aws_subnet.data : subnet.id])
    error_message = "PostgreSQL is encrypted and stands in subnets that have no way out."
  }

  assert {
    condition     = alltrue([for association in aws_route_table_association.data : association.route_table_id == aws_route_table.data.id]) && !contains([for route in concat(values(aws_route.private), [aws_route.public]) : route.route_table_id], aws_route_table.data.id)
    error_message = "The databases' route table has no route to the outside."
  }

  assert {
    condition     = contains([for parameter in aws_db_parameter_group.this.parameter : "${parameter.name}=${parameter.value}"], "rds.force_ssl=1")
    error_message = "PostgreSQL refuses a connection without TLS."
  }

  assert {
    condition     = aws_db_instance.this.deletion_protection && !aws_db_instance.this.skip_final_snapshot && aws_db_instance.this.backup_retention_period >= 7
    error_message = "PostgreSQL is protected unless an environment says otherwise, and never goes without a last snapshot."
  }

  assert {
    condition     = aws_elasticache_replication_group.this.transit_encryption_mode == "required" && aws_elasticache_replication_group.this.at_rest_encryption_enabled && aws_elasticache_replication_group.this.auth_token_update_strategy == "ROTATE"
    error_message = "Redis asks for TLS and a password, and is encrypted."
  }

  assert {
    condition = alltrue([for rule in [aws_vpc_security_group_ingress_rule.database, aws_vpc_security_group_ingress_rule.cache] :
    rule.referenced_security_group_id == "sg-0123456789abcdef0" && rule.cidr_ipv4 == null && rule.from_port == rule.to_port])
    error_message = "Databases let the cluster's nodes in, on their one port, and no address."
  }

  # Buckets
  assert {
    condition     = alltrue([for bucket in concat(values(module.bucket), [module.access_logs]) : bucket.guards.blocked && bucket.guards.versioned])
    error_message = "Every bucket is closed to the public and keeps versions."
  }

  assert {
    condition     = alltrue([for bucket in module.bucket : bucket.guards.encrypted == "aws:kms"]) && module.access_logs.guards.encrypted == "AES256"
    error_message = "Every bucket is encrypted with the environment's key; S3 delivers access logs to its own alone."
  }

  assert {
    condition     = { for name, bucket in module.bucket : name => bucket.guards.locked } == { backups = true, logs = false, mlflow = false, workflows = false }
    error_message = "Backups can't be deleted."
  }

  # Identities
  assert {
    condition = alltrue(flatten([for policy in concat(values(aws_iam_role_policy.workload), [aws_iam_role_policy.flow_logs]) :
    [for statement in jsondecode(policy.policy).Statement : [for action in flatten([statement.Action]) : !strcontains(action, "*")]]]))
    error_message = "No role may do whatever matches a *."
  }

  assert {
    condition = alltrue(flatten([for policy in aws_iam_role_policy.workload : [for statement in jsondecode(policy.policy).Statement :
      contains(flatten([statement.Resource]), "*") ? [for action in flatten([statement.Action]) : can(regex("^[a-z0-9]+:(Describe|List|Get)", action))] : [true]
    ]]))
    error_message = "Only a call that looks may name every resource, where AWS knows no other."
  }

  assert {
    condition     = alltrue([for role in aws_iam_role.workload : jsondecode(role.assume_role_policy).Statement[0].Principal.Service == "pods.eks.amazonaws.com" && jsondecode(role.assume_role_policy).Statement[0].Condition.StringEquals["aws:SourceAccount"] == "123456789012"])
    error_message = "Workloads' roles are for EKS Pod Identity of this account."
  }

  assert {
    condition     = alltrue([for statement in jsondecode(aws_iam_role_policy.workload["server"].policy).Statement : !anytrue([for action in flatten([statement.Action]) : can(regex("Put|Delete|Sign|Encrypt", action))])])
    error_message = "A model's server reads releases and writes nothing."
  }

  assert {
    condition     = !anytrue([for statement in jsondecode(aws_iam_role_policy.workload["backup"].policy).Statement : contains(flatten([statement.Action]), "s3:DeleteObject") && anytrue([for resource in flatten([statement.Resource]) : strcontains(resource, "backups")])])
    error_message = "Who writes backups deletes none."
  }

  assert {
    condition     = !anytrue([for statement in jsondecode(aws_iam_role_policy.workload["register"].policy).Statement : contains(flatten([statement.Action]), "s3:DeleteObject") && anytrue([for resource in flatten([statement.Resource]) : strcontains(resource, "releases")])])
    error_message = "Who adds releases deletes none."
  }

  assert {
    condition = [for name, policy in aws_iam_role_policy.workload : name if anytrue([for statement in jsondecode(policy.policy).Statement :
    contains(flatten([statement.Action]), "s3:PutObject") && anytrue([for resource in flatten([statement.Resource]) : strcontains(resource, "releases")])])] == ["register"]
    error_message = "Registration alone adds releases."
  }

  # Secrets, names, warnings
  assert {
    condition     = alltrue([for entry in aws_secretsmanager_secret.this : startswith(entry.name, "plumbline/trial/") && entry.kms_key_id == aws_kms_key.this.arn])
    error_message = "Every entry stands where External Secrets looks, encrypted with the environment's key."
  }

  assert {
    condition     = output.services.PGHOST == aws_db_instance.this.address && one(aws_route53_zone.private.vpc).vpc_id == aws_vpc.this.id
    error_message = "PostgreSQL goes by the name in its certificate; private names are known in the VPC alone."
  }

  assert {
    condition     = alltrue([for alarm in aws_cloudwatch_metric_alarm.this : contains(alarm.alarm_actions, aws_sns_topic.alerts.arn)]) && aws_sns_topic_subscription.alerts.endpoint == "platform@example.com"
    error_message = "Every alarm reaches the address of `alerts`."
  }

  assert {
    condition     = output.environment == { name = "trial", registry = "123456789012.dkr.ecr.us-east-1.amazonaws.com/plumbline", domain = "example.com", region = "us-east-1", buckets = "acme-trial" }
    error_message = "`environment` is what environment.yaml says."
  }
}

run "another_region_than_the_provider" {
  command = plan
  variables {
    region = "eu-west-3"
  }
  expect_failures = [aws_vpc.this]
}

run "two_zones_are_too_few" {
  command = plan
  override_data {
    target = data.aws_availability_zones.all
    values = { names = ["us-west-1a", "us-west-1b"] }
  }
  expect_failures = [aws_vpc.this]
}

run "wrong_values" {
  command = plan
  variables {
    environment = "Trial"
    region      = "us-east-1a"
    domain      = "https://example.com"
    buckets     = "Acme_"
    cidr        = "192.168.0.0/16"
    kubernetes  = "1.29"
    admins      = ["arn:aws:sts::123456789012:assumed-role/platform/me"]
    api_cidrs   = ["0.0.0.0/0"]
    nodes       = { types = ["m7i.xlarge"], least = 3, most = 2 }
    database    = { class = "m7g.large", storage = 30, most = 100, backup_days = 1, multi_az = false }
    cache       = { type = "cache.t4g.small", nodes = 1 }
    alerts      = "nobody"
    budget      = 0
  }
  expect_failures = [
    var.environment, var.region, var.domain, var.buckets, var.cidr, var.kubernetes, var.admins, var.api_cidrs, var.nodes, var.database,
    var.cache, var.alerts, var.budget,
  ]
}
