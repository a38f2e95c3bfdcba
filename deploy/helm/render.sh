#!/usr/bin/env bash
# What the chart makes of the values beside this script, for rendered/: run it after a change to the chart. Needs helm 3.
set -euo pipefail
cd "$(dirname "$0")"
export LC_ALL=C
for values in minimal full; do
  helm template eu signpost-region --kube-version 1.34.0 --namespace signpost --values "$values.yaml" > "rendered/$values.yaml"
done
cat signpost-region/{Chart,values}.yaml signpost-region/values.schema.json signpost-region/templates/* ../alerts/region.yaml ./{minimal,full}.yaml | sha256sum | cut -d ' ' -f 1 > rendered/SOURCES
