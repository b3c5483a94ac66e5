# At the version that AWS holds for this Kubernetes' default; a plan shows when that moves on.
data "aws_eks_addon_version" "default" {
  for_each           = setunion(keys(local.before_nodes), keys(local.after_nodes))
  addon_name         = each.key
  kubernetes_version = aws_eks_cluster.this.version
}

locals {
  before_nodes = {
    # NetworkPolicies are enforced, not only stored.
    vpc-cni                = { enableNetworkPolicy = "true", env = { ENABLE_PREFIX_DELEGATION = "true" } }
    kube-proxy             = {}
    eks-pod-identity-agent = {}
  }
  after_nodes = {
    coredns = {}
    # Its StorageClass is the one that claims without a class get; volumes are encrypted by the account's default.
    aws-ebs-csi-driver = { defaultStorageClass = { enabled = true } }
  }
  # The add-ons that ask AWS for something: {add-on: [ServiceAccount, policy of AWS]}.
  addon_roles = {
    vpc-cni            = ["aws-node", "AmazonEKS_CNI_Policy"]
    aws-ebs-csi-driver = ["ebs-csi-controller-sa", "service-role/AmazonEBSCSIDriverPolicy"]
  }
}

resource "aws_eks_addon" "before_nodes" {
  for_each             = local.before_nodes
  cluster_name         = aws_eks_cluster.this.name
  addon_name           = each.key
  addon_version        = data.aws_eks_addon_version.default[each.key].version
  configuration_values = jsonencode(each.value)

  dynamic "pod_identity_association" {
    for_each = contains(keys(local.addon_roles), each.key) ? [local.addon_roles[each.key][0]] : []
    content {
      service_account = pod_identity_association.value
      role_arn        = aws_iam_role.addon[each.key].arn
    }
  }

  depends_on = [aws_iam_role_policy_attachment.addon]
}

resource "aws_eks_addon" "after_nodes" {
  for_each             = local.after_nodes
  cluster_name         = aws_eks_cluster.this.name
  addon_name           = each.key
  addon_version        = data.aws_eks_addon_version.default[each.key].version
  configuration_values = jsonencode(each.value)

  dynamic "pod_identity_association" {
    for_each = contains(keys(local.addon_roles), each.key) ? [local.addon_roles[each.key][0]] : []
    content {
      service_account = pod_identity_association.value
      role_arn        = aws_iam_role.addon[each.key].arn
    }
  }

  depends_on = [aws_eks_node_group.this, aws_iam_role_policy_attachment.addon]
}

resource "aws_iam_role" "addon" {
  for_each           = local.addon_roles
  name               = "${local.name}-${each.key}"
  assume_role_policy = local.trust_pods
}

resource "aws_iam_role_policy_attachment" "addon" {
  for_each   = local.addon_roles
  role       = aws_iam_role.addon[each.key].name
  policy_arn = "arn:aws:iam::aws:policy/${each.value[1]}"
}
