#!/usr/bin/env bash
# Writes deploy/kubernetes/stepwire.yaml, for those who use kubectl and not Helm: the chart with its defaults.
set -euo pipefail
cd "$(dirname "$0")/.."

{
    echo "# deploy/helm/stepwire with its defaults; written by tools/render_manifests.sh."
    echo "# It needs a namespace stepwire, and in it the secrets stepwire-postgres, stepwire-rabbitmq and stepwire-first-key."
    helm template stepwire deploy/helm/stepwire --namespace stepwire --kube-version 1.34.0 --skip-tests
} >"${1:-deploy/kubernetes/stepwire.yaml}"
