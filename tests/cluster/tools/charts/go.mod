// No program: charts and CRDs of projects whose programs stand in modules that no proxy serves (docs/testing.md).
module plumbline.dev/tests/cluster/tools/charts

go 1.26.0

require (
	github.com/cert-manager/cert-manager v1.21.2
	github.com/external-secrets/external-secrets v1.3.2
)
