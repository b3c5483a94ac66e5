# What Prometheus does not see from inside the cluster: the managed services, and the bill.
locals {
  database = { DBInstanceIdentifier = aws_db_instance.this.identifier }
  alarms = merge(
    {
      database-cpu         = { space = "AWS/RDS", metric = "CPUUtilization", on = local.database, above = 80, periods = 3, says = "PostgreSQL has no CPU left." }
      database-disk        = { space = "AWS/RDS", metric = "FreeStorageSpace", on = local.database, below = 5 * pow(1024, 3), periods = 1, says = "PostgreSQL has less than 5 GiB of disk left." }
      database-memory      = { space = "AWS/RDS", metric = "FreeableMemory", on = local.database, below = 128 * pow(1024, 2), periods = 3, says = "PostgreSQL has less than 128 MiB of memory left." }
      database-connections = { space = "AWS/RDS", metric = "DatabaseConnections", on = local.database, above = 200, periods = 3, says = "Somebody opens connections to PostgreSQL and keeps them." }
    },
    merge([for number in range(1, var.cache.nodes + 1) : {
      "cache-memory-${number}" = { space = "AWS/ElastiCache", metric = "DatabaseMemoryUsagePercentage", on = { CacheClusterId = format("%s-%03d", local.name, number) }, above = 80, periods = 3, says = "Redis is nearly full: it is about to drop answers, and then to refuse predictions for the log." }
      "cache-lag-${number}"    = { space = "AWS/ElastiCache", metric = "ReplicationLag", on = { CacheClusterId = format("%s-%03d", local.name, number) }, above = 30, periods = 3, says = "A failover of Redis would lose more than 30 seconds of the log." }
    }]...),
    { for zone, gateway in aws_nat_gateway.this :
      "nat-${zone}" => { space = "AWS/NATGateway", metric = "ErrorPortAllocation", on = { NatGatewayId = gateway.id }, above = 0, periods = 3, says = "Connections to the outside fail: too many at once." }
    },
  )
}

resource "aws_cloudwatch_metric_alarm" "this" {
  for_each            = local.alarms
  alarm_name          = "${local.name}-${each.key}"
  alarm_description   = each.value.says
  namespace           = each.value.space
  metric_name         = each.value.metric
  dimensions          = each.value.on
  statistic           = "Maximum"
  period              = 300
  evaluation_periods  = each.value.periods
  comparison_operator = contains(keys(each.value), "below") ? "LessThanThreshold" : "GreaterThanThreshold"
  threshold           = contains(keys(each.value), "below") ? each.value.below : each.value.above
  # A service that tells nothing is not known to be well; a replica of Redis alone has a lag to tell.
  treat_missing_data = endswith(each.value.metric, "Lag") || endswith(each.value.metric, "Allocation") ? "notBreaching" : "breaching"
  alarm_actions      = [aws_sns_topic.alerts.arn]
  ok_actions         = [aws_sns_topic.alerts.arn]
}

resource "aws_sns_topic" "alerts" {
  name              = "${local.name}-alerts"
  kms_master_key_id = aws_kms_key.this.arn
}

resource "aws_sns_topic_policy" "alerts" {
  arn = aws_sns_topic.alerts.arn
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = ["cloudwatch.amazonaws.com", "budgets.amazonaws.com"] }
      Action    = "sns:Publish"
      Resource  = aws_sns_topic.alerts.arn
      Condition = { StringEquals = { "aws:SourceAccount" = local.account } }
    }]
  })
}

resource "aws_sns_topic_subscription" "alerts" {
  topic_arn = aws_sns_topic.alerts.arn
  protocol  = "email"
  endpoint  = var.alerts
}

resource "aws_budgets_budget" "this" {
  name         = local.name
  budget_type  = "COST"
  limit_amount = format("%.2f", var.budget)
  limit_unit   = "USD"
  time_unit    = "MONTHLY"

  # Counted from the day on which the tag is activated for costs (docs/aws.md).
  cost_filter {
    name   = "TagKeyValue"
    values = ["user:Environment$${var.environment}"]
  }

  dynamic "notification" {
    for_each = { ACTUAL = 80, FORECASTED = 100 }
    content {
      comparison_operator       = "GREATER_THAN"
      notification_type         = notification.key
      threshold                 = notification.value
      threshold_type            = "PERCENTAGE"
      subscriber_sns_topic_arns = [aws_sns_topic.alerts.arn]
    }
  }
}
