# Redis: answers, limits, online features, and the streams that the prediction log is read from.
resource "aws_elasticache_replication_group" "this" {
  replication_group_id = local.name
  description          = "Redis of plumbline ${var.environment}"
  engine               = "redis"
  engine_version       = "7.1"
  node_type            = var.cache.type
  num_cache_clusters   = var.cache.nodes
  parameter_group_name = aws_elasticache_parameter_group.this.name
  port                 = 6379

  multi_az_enabled           = true
  automatic_failover_enabled = true
  auto_minor_version_upgrade = true

  subnet_group_name  = aws_elasticache_subnet_group.this.name
  security_group_ids = [aws_security_group.cache.id]

  at_rest_encryption_enabled = true
  kms_key_id                 = aws_kms_key.this.arn
  transit_encryption_enabled = true
  transit_encryption_mode    = "required"
  # ElastiCache takes no write-only value in this provider: this one password stands in the state, which is encrypted.
  auth_token                 = jsondecode(data.aws_secretsmanager_secret_version.redis.secret_string).REDIS_PASSWORD
  auth_token_update_strategy = "ROTATE"

  snapshot_retention_limit  = 7
  snapshot_window           = "02:00-03:00"
  maintenance_window        = "sun:03:30-sun:04:30"
  final_snapshot_identifier = "${local.name}-last"
}

# As kustomize/redis has it: what has an end goes first, the streams stay.
resource "aws_elasticache_parameter_group" "this" {
  name   = "${local.name}-redis7"
  family = "redis7"

  parameter {
    name  = "maxmemory-policy"
    value = "volatile-lru"
  }
}

resource "aws_elasticache_subnet_group" "this" {
  name       = local.name
  subnet_ids = [for subnet in aws_subnet.data : subnet.id]
}

resource "aws_security_group" "cache" {
  name        = "${local.name}-cache"
  description = "Redis from the nodes of the cluster"
  vpc_id      = aws_vpc.this.id
}

resource "aws_vpc_security_group_ingress_rule" "cache" {
  security_group_id            = aws_security_group.cache.id
  description                  = "Redis from the nodes of the cluster"
  referenced_security_group_id = aws_eks_cluster.this.vpc_config[0].cluster_security_group_id
  ip_protocol                  = "tcp"
  from_port                    = 6379
  to_port                      = 6379
}
