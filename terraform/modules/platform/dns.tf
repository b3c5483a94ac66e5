# <environment>.<domain>, twice: for people outside, and for whoever is inside the VPC.
resource "aws_route53_zone" "public" {
  #checkov:skip=CKV2_AWS_38:DNSSEC asks for a key in us-east-1 and a record at the parent, which is the adopter's.
  #checkov:skip=CKV2_AWS_39:Who asked for a public name is no fact that anybody here needs.
  name = "${var.environment}.${var.domain}"
}

resource "aws_route53_zone" "private" {
  #checkov:skip=CKV2_AWS_38:Private zones can't be signed.
  #checkov:skip=CKV2_AWS_39:Private zones can't be logged so.
  name = "${var.environment}.${var.domain}"

  vpc {
    vpc_id = aws_vpc.this.id
  }
}

# For load balancers. It is issued once <environment>.<domain> is delegated; nothing here waits for that.
resource "aws_acm_certificate" "this" {
  domain_name               = "${var.environment}.${var.domain}"
  subject_alternative_names = ["*.${var.environment}.${var.domain}"]
  validation_method         = "DNS"

  options {
    certificate_transparency_logging_preference = "ENABLED"
  }

  lifecycle {
    create_before_destroy = true
  }
}

# Both of its names are proved by one record.
resource "aws_route53_record" "certificate" {
  zone_id         = aws_route53_zone.public.zone_id
  name            = tolist(aws_acm_certificate.this.domain_validation_options)[0].resource_record_name
  type            = tolist(aws_acm_certificate.this.domain_validation_options)[0].resource_record_type
  records         = [tolist(aws_acm_certificate.this.domain_validation_options)[0].resource_record_value]
  ttl             = 300
  allow_overwrite = true
}
