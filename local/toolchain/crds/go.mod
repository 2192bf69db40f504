// The operators' modules, for the custom resource definitions that they carry as files.
// Nothing here is compiled: `go mod download` fetches and verifies each module by its go.sum.
module fault-tolerance/toolchain/crds

go 1.26

require (
	github.com/cert-manager/cert-manager v1.19.3
	github.com/cloudnative-pg/cloudnative-pg v1.30.0
	github.com/cloudnative-pg/plugin-barman-cloud v0.14.0
	github.com/kedacore/keda/v2 v2.21.0
	github.com/kubernetes-csi/external-snapshotter/client/v8 v8.4.0
	github.com/open-feature/open-feature-operator v0.9.2
	github.com/percona/percona-server-mongodb-operator v1.22.0
	github.com/prometheus-operator/prometheus-operator v0.93.0
	github.com/vmware-tanzu/velero v1.18.3
	istio.io/api v1.30.3
	sigs.k8s.io/kwok v0.8.0
)
