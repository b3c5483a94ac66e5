# What the controllers of nodes, load balancers and names may do. AWS offers no resource to name for the calls that only
# look (Describe…, List…, Get…); whatever changes something is held to this cluster or this zone.
locals {
  of_cluster = { StringEquals = { "aws:ResourceTag/elbv2.k8s.aws/cluster" = local.name } }
  for_cluster = {
    StringEquals = { "aws:RequestTag/elbv2.k8s.aws/cluster" = local.name }
  }
  elb = "arn:aws:elasticloadbalancing:${var.region}:${local.account}"
  ec2 = "arn:aws:ec2:${var.region}:${local.account}"

  autoscaler = [
    {
      Effect = "Allow"
      Action = [
        "autoscaling:DescribeAutoScalingGroups", "autoscaling:DescribeAutoScalingInstances", "autoscaling:DescribeLaunchConfigurations",
        "autoscaling:DescribeScalingActivities", "autoscaling:DescribeTags", "ec2:DescribeImages", "ec2:DescribeInstanceTypes",
        "ec2:DescribeLaunchTemplateVersions", "ec2:GetInstanceTypesFromInstanceRequirements",
      ]
      Resource = "*"
    },
    {
      Effect   = "Allow"
      Action   = ["eks:DescribeNodegroup"]
      Resource = "arn:aws:eks:${var.region}:${local.account}:nodegroup/${local.name}/*"
    },
    {
      Effect   = "Allow"
      Action   = ["autoscaling:SetDesiredCapacity", "autoscaling:TerminateInstanceInAutoScalingGroup"]
      Resource = "arn:aws:autoscaling:${var.region}:${local.account}:autoScalingGroup:*:autoScalingGroupName/eks-*"
      # EKS tags the groups of its nodes so.
      Condition = { StringEquals = { "aws:ResourceTag/k8s.io/cluster-autoscaler/${local.name}" = "owned" } }
    },
  ]

  load_balancers = [
    {
      Effect = "Allow"
      Action = [
        "ec2:DescribeAccountAttributes", "ec2:DescribeAddresses", "ec2:DescribeAvailabilityZones", "ec2:DescribeInstances",
        "ec2:DescribeInternetGateways", "ec2:DescribeNetworkInterfaces", "ec2:DescribeRouteTables", "ec2:DescribeSecurityGroups",
        "ec2:DescribeSubnets", "ec2:DescribeTags", "ec2:DescribeVpcs", "ec2:GetSecurityGroupsForVpc",
        "elasticloadbalancing:DescribeListenerAttributes", "elasticloadbalancing:DescribeListenerCertificates",
        "elasticloadbalancing:DescribeListeners", "elasticloadbalancing:DescribeLoadBalancerAttributes",
        "elasticloadbalancing:DescribeLoadBalancers", "elasticloadbalancing:DescribeRules", "elasticloadbalancing:DescribeSSLPolicies",
        "elasticloadbalancing:DescribeTags", "elasticloadbalancing:DescribeTargetGroupAttributes",
        "elasticloadbalancing:DescribeTargetGroups", "elasticloadbalancing:DescribeTargetHealth", "acm:ListCertificates",
      ]
      Resource = "*"
    },
    { Effect = "Allow", Action = ["acm:DescribeCertificate"], Resource = "arn:aws:acm:${var.region}:${local.account}:certificate/*" },
    # Security groups of load balancers, made in this VPC and tagged at once.
    {
      Effect   = "Allow"
      Action   = ["ec2:CreateSecurityGroup"]
      Resource = aws_vpc.this.arn
    },
    { Effect = "Allow", Action = ["ec2:CreateSecurityGroup"], Resource = "${local.ec2}:security-group/*", Condition = local.for_cluster },
    {
      Effect    = "Allow"
      Action    = ["ec2:CreateTags"]
      Resource  = "${local.ec2}:security-group/*"
      Condition = { StringEquals = merge(local.for_cluster.StringEquals, { "ec2:CreateAction" = "CreateSecurityGroup" }) }
    },
    {
      Effect    = "Allow"
      Action    = ["ec2:AuthorizeSecurityGroupIngress", "ec2:RevokeSecurityGroupIngress", "ec2:DeleteSecurityGroup"]
      Resource  = "${local.ec2}:security-group/*"
      Condition = local.of_cluster
    },
    # The nodes' own group lets the load balancers' groups in.
    {
      Effect    = "Allow"
      Action    = ["ec2:AuthorizeSecurityGroupIngress", "ec2:RevokeSecurityGroupIngress"]
      Resource  = "${local.ec2}:security-group/*"
      Condition = { StringEquals = { "aws:ResourceTag/aws:eks:cluster-name" = local.name } }
    },
    {
      Effect    = "Allow"
      Action    = ["elasticloadbalancing:CreateLoadBalancer", "elasticloadbalancing:CreateTargetGroup"]
      Resource  = ["${local.elb}:loadbalancer/*", "${local.elb}:targetgroup/*"]
      Condition = local.for_cluster
    },
    {
      Effect   = "Allow"
      Action   = ["elasticloadbalancing:AddTags"]
      Resource = ["${local.elb}:loadbalancer/*", "${local.elb}:targetgroup/*", "${local.elb}:listener/*", "${local.elb}:listener-rule/*"]
      Condition = {
        StringEquals = merge(local.for_cluster.StringEquals, {
          "elasticloadbalancing:CreateAction" = ["CreateLoadBalancer", "CreateTargetGroup", "CreateListener", "CreateRule"]
        })
      }
    },
    {
      Effect = "Allow"
      Action = [
        "elasticloadbalancing:CreateListener", "elasticloadbalancing:CreateRule", "elasticloadbalancing:DeleteListener",
        "elasticloadbalancing:DeleteLoadBalancer", "elasticloadbalancing:DeleteRule", "elasticloadbalancing:DeleteTargetGroup",
        "elasticloadbalancing:DeregisterTargets", "elasticloadbalancing:ModifyListener", "elasticloadbalancing:ModifyListenerAttributes",
        "elasticloadbalancing:ModifyLoadBalancerAttributes", "elasticloadbalancing:ModifyRule", "elasticloadbalancing:ModifyTargetGroup",
        "elasticloadbalancing:ModifyTargetGroupAttributes", "elasticloadbalancing:RegisterTargets", "elasticloadbalancing:RemoveTags",
        "elasticloadbalancing:SetIpAddressType", "elasticloadbalancing:SetSecurityGroups", "elasticloadbalancing:SetSubnets",
      ]
      Resource  = ["${local.elb}:loadbalancer/*", "${local.elb}:targetgroup/*", "${local.elb}:listener/*", "${local.elb}:listener-rule/*"]
      Condition = local.of_cluster
    },
  ]

  names = [
    { Effect = "Allow", Action = ["route53:ListHostedZones", "route53:ListHostedZonesByName"], Resource = "*" },
    {
      Effect   = "Allow"
      Action   = ["route53:ChangeResourceRecordSets", "route53:ListResourceRecordSets", "route53:ListTagsForResources"]
      Resource = [aws_route53_zone.public.arn, aws_route53_zone.private.arn]
    },
  ]
}
