output "environment" {
  description = "What clusters/<environment>/environment.yaml holds; `plumbline tree outputs` writes it there."
  value = {
    name     = var.environment
    registry = "${local.account}.dkr.ecr.${var.region}.amazonaws.com/plumbline"
    domain   = var.domain
    region   = var.region
    buckets  = var.buckets
  }
}

output "services" {
  description = "What clusters/<environment>/services/services.env holds; `plumbline tree outputs` writes it there."
  value = {
    # Each by the name in its certificate, which stays when another node takes over; PostgreSQL's also when a restored
    # instance is given the identifier of the one before it.
    PGHOST          = aws_db_instance.this.address
    REDIS_ADDRESS   = "${aws_elasticache_replication_group.this.primary_endpoint_address}:6379"
    PROMOTION_STORE = "s3://${trimprefix(local.releases, "arn:aws:s3:::")}"
  }
}

output "name_servers" {
  description = "To which the owner of the domain delegates <environment>.<domain>."
  value       = aws_route53_zone.public.name_servers
}

output "certificate" {
  description = "ARN of the certificate of *.<environment>.<domain>, for load balancers."
  value       = aws_acm_certificate.this.arn
}

output "secrets" {
  description = "Entries of Secrets Manager, each with the keys that were drawn; where there are none, a person writes it (docs/secrets.md)."
  value = merge(
    { for name in local.written_by_people : "${local.prefix}/${name}" => [] },
    { for name, entry in local.drawn : "${local.prefix}/${name}" => concat(entry.random, keys(lookup(entry, "fixed", {}))) },
  )
}

output "identities" {
  description = "{role: the ServiceAccount that has it}."
  value       = { for name, workload in local.workloads : name => "${workload.namespace}/${workload.account}" }
}

output "next" {
  description = "What leads from here to a running platform, once environment.yaml is merged."
  value = [
    "aws eks update-kubeconfig --region ${var.region} --name ${aws_eks_cluster.this.name} --alias ${local.name}",
    "scripts/bootstrap ${var.environment} --context ${local.name}",
  ]
}
