# Who pods are to AWS: a ServiceAccount has a role by EKS Pod Identity, and each role what its pods call and no more.
locals {
  trust_pods = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "pods.eks.amazonaws.com" }
      Action    = ["sts:AssumeRole", "sts:TagSession"]
      Condition = { StringEquals = { "aws:SourceAccount" = local.account } }
    }]
  })

  use_key = {
    Effect    = "Allow"
    Action    = ["kms:Decrypt", "kms:GenerateDataKey"]
    Resource  = aws_kms_key.this.arn
    Condition = { StringLike = { "kms:ViaService" = ["s3.${var.region}.amazonaws.com", "secretsmanager.${var.region}.amazonaws.com"] } }
  }
  arn  = { for name in keys(local.buckets) : name => "arn:aws:s3:::${var.buckets}-${name}" }
  list = ["s3:ListBucket", "s3:GetBucketLocation"]
  read = ["s3:GetObject"]
  # Without s3:DeleteObjectVersion and s3:BypassGovernanceRetention: what is deleted can be brought back.
  write = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"]

  keeps_artifacts = [
    { Effect = "Allow", Action = local.list, Resource = local.arn.workflows },
    { Effect = "Allow", Action = local.write, Resource = "${local.arn.workflows}/*" },
    local.use_key,
  ]

  # Without the right to list: what is named can be read.
  reads_releases = [
    { Effect = "Allow", Action = local.read, Resource = "${local.releases}/*" },
    {
      Effect    = "Allow", Action = ["kms:Decrypt"], Resource = "arn:aws:kms:${var.region}:${local.account}:key/*"
      Condition = { "ForAnyValue:StringEquals" = { "kms:ResourceAliases" = "alias/plumbline-shared" } }
    },
  ]

  workloads = {
    mlflow = {
      namespace = "mlflow", account = "mlflow"
      allow = [
        { Effect = "Allow", Action = local.list, Resource = local.arn.mlflow },
        { Effect = "Allow", Action = local.write, Resource = "${local.arn.mlflow}/*" },
        local.use_key,
      ]
    }
    # Steps of Workflows: they keep artifacts, logs and batches.
    workflow  = { namespace = "workflows", account = "workflow", allow = concat(local.keeps_artifacts, local.reads_releases) }
    promote   = { namespace = "workflows", account = "promote", allow = concat(local.keeps_artifacts, local.reads_releases) }
    reconcile = { namespace = "workflows", account = "reconcile", allow = concat(local.keeps_artifacts, local.reads_releases) }
    # Opens what a training made, and reads nothing that is released.
    judge = { namespace = "workflows", account = "judge", allow = local.keeps_artifacts }
    # Registration adds a release; the bucket's lock lets nobody replace one.
    register = {
      namespace = "workflows", account = "register"
      allow = concat(local.keeps_artifacts, local.reads_releases, [
        { Effect = "Allow", Action = ["s3:PutObject"], Resource = "${local.releases}/*" },
        {
          Effect    = "Allow", Action = ["kms:GenerateDataKey"], Resource = "arn:aws:kms:${var.region}:${local.account}:key/*"
          Condition = { "ForAnyValue:StringEquals" = { "kms:ResourceAliases" = "alias/plumbline-shared" } }
        },
      ])
    }
    # What a backup copies and brings back.
    backup = {
      namespace = "workflows", account = "backup"
      allow = concat(local.keeps_artifacts, [
        { Effect = "Allow", Action = local.list, Resource = [local.arn.backups, local.arn.mlflow] },
        { Effect = "Allow", Action = local.write, Resource = "${local.arn.mlflow}/*" },
        { Effect = "Allow", Action = ["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"], Resource = "${local.arn.backups}/*" },
      ])
    }
    # Released bytes, read only: from the account's bucket and its image registry.
    server = { namespace = "models", account = "server", allow = local.reads_releases }
    loki = {
      namespace = "logging", account = "loki"
      allow = [
        { Effect = "Allow", Action = local.list, Resource = local.arn.logs },
        { Effect = "Allow", Action = local.write, Resource = "${local.arn.logs}/*" },
        local.use_key,
      ]
    }
    external-secrets = {
      namespace = "external-secrets", account = "external-secrets"
      allow = [
        { Effect = "Allow", Action = ["secretsmanager:GetSecretValue", "secretsmanager:DescribeSecret"], Resource = local.reads_it },
        local.use_key,
      ]
    }
    cluster-autoscaler           = { namespace = "kube-system", account = "cluster-autoscaler", allow = local.autoscaler }
    aws-load-balancer-controller = { namespace = "kube-system", account = "aws-load-balancer-controller", allow = local.load_balancers }
    external-dns                 = { namespace = "external-dns", account = "external-dns", allow = local.names }
  }
  # As terraform/account calls it.
  releases = "arn:aws:s3:::plumbline-releases-${local.account}"
}

resource "aws_iam_role" "workload" {
  for_each           = local.workloads
  name               = "${local.name}-${each.key}"
  assume_role_policy = local.trust_pods
}

resource "aws_iam_role_policy" "workload" {
  for_each = local.workloads
  role     = aws_iam_role.workload[each.key].id
  policy   = jsonencode({ Version = "2012-10-17", Statement = each.value.allow })
}

resource "aws_eks_pod_identity_association" "workload" {
  for_each        = local.workloads
  cluster_name    = aws_eks_cluster.this.name
  namespace       = each.value.namespace
  service_account = each.value.account
  role_arn        = aws_iam_role.workload[each.key].arn
}
