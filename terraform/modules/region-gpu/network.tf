# Private subnets with one way out: nothing comes in but through the tunnel, which the tasks open.
locals {
  makes_network = var.network == null
  zones         = local.makes_network ? slice(data.aws_availability_zones.here[0].names, 0, min(3, length(data.aws_availability_zones.here[0].names))) : []
  vpc_id        = local.makes_network ? aws_vpc.region[0].id : var.network.vpc_id
  subnet_ids    = local.makes_network ? aws_subnet.private[*].id : var.network.subnet_ids
}

data "aws_availability_zones" "here" {
  count = local.makes_network ? 1 : 0

  region = var.aws_region
  state  = "available"

  filter {
    name   = "opt-in-status"
    values = ["opt-in-not-required"]
  }
}

resource "aws_vpc" "region" {
  count = local.makes_network ? 1 : 0

  region               = var.aws_region
  cidr_block           = var.cidr
  enable_dns_hostnames = true
  tags                 = merge(local.tags, { Name = local.full_name })
}

resource "aws_subnet" "private" {
  count = length(local.zones)

  region            = var.aws_region
  vpc_id            = aws_vpc.region[0].id
  availability_zone = local.zones[count.index]
  cidr_block        = cidrsubnet(var.cidr, 4, count.index)
  tags              = merge(local.tags, { Name = "${local.full_name}-${local.zones[count.index]}" })
}

resource "aws_subnet" "public" {
  count = local.makes_network ? 1 : 0

  region            = var.aws_region
  vpc_id            = aws_vpc.region[0].id
  availability_zone = local.zones[0]
  cidr_block        = cidrsubnet(var.cidr, 4, 15)
  tags              = merge(local.tags, { Name = "${local.full_name}-nat" })
}

resource "aws_internet_gateway" "region" {
  count = local.makes_network ? 1 : 0

  region = var.aws_region
  vpc_id = aws_vpc.region[0].id
  tags   = merge(local.tags, { Name = local.full_name })
}

resource "aws_eip" "nat" {
  count = local.makes_network ? 1 : 0

  region = var.aws_region
  domain = "vpc"
  tags   = merge(local.tags, { Name = "${local.full_name}-nat" })
}

# One for all zones: if its zone fails, so does the region, and the edge asks the others.
resource "aws_nat_gateway" "region" {
  count = local.makes_network ? 1 : 0

  region        = var.aws_region
  allocation_id = aws_eip.nat[0].id
  subnet_id     = aws_subnet.public[0].id
  tags          = merge(local.tags, { Name = local.full_name })

  depends_on = [aws_internet_gateway.region]
}

resource "aws_route_table" "public" {
  count = local.makes_network ? 1 : 0

  region = var.aws_region
  vpc_id = aws_vpc.region[0].id
  tags   = merge(local.tags, { Name = "${local.full_name}-nat" })
}

resource "aws_route" "public" {
  count = local.makes_network ? 1 : 0

  region                 = var.aws_region
  route_table_id         = aws_route_table.public[0].id
  destination_cidr_block = "0.0.0.0/0"
  gateway_id             = aws_internet_gateway.region[0].id
}

resource "aws_route_table_association" "public" {
  count = local.makes_network ? 1 : 0

  region         = var.aws_region
  subnet_id      = aws_subnet.public[0].id
  route_table_id = aws_route_table.public[0].id
}

resource "aws_route_table" "private" {
  count = local.makes_network ? 1 : 0

  region = var.aws_region
  vpc_id = aws_vpc.region[0].id
  tags   = merge(local.tags, { Name = local.full_name })
}

resource "aws_route" "private" {
  count = local.makes_network ? 1 : 0

  region                 = var.aws_region
  route_table_id         = aws_route_table.private[0].id
  destination_cidr_block = "0.0.0.0/0"
  nat_gateway_id         = aws_nat_gateway.region[0].id
}

resource "aws_route_table_association" "private" {
  count = length(local.zones)

  region         = var.aws_region
  subnet_id      = aws_subnet.private[count.index].id
  route_table_id = aws_route_table.private[0].id
}

# The base and the experts come this way, free; through the NAT they would cost by the GB.
resource "aws_vpc_endpoint" "s3" {
  count = local.makes_network ? 1 : 0

  region            = var.aws_region
  vpc_id            = aws_vpc.region[0].id
  service_name      = "com.amazonaws.${var.aws_region}.s3"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = [aws_route_table.private[0].id]
  tags              = merge(local.tags, { Name = "${local.full_name}-s3" })
}

resource "aws_security_group" "task" {
  region      = var.aws_region
  name        = "${local.full_name}-task"
  description = "Tasks of ${local.full_name}: nothing in, anything out."
  vpc_id      = local.vpc_id
  tags        = merge(local.tags, { Name = "${local.full_name}-task" })
}

resource "aws_vpc_security_group_egress_rule" "task" {
  region            = var.aws_region
  security_group_id = aws_security_group.task.id
  description       = "The store, the edge, the tunnel, AWS"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "-1"
}
