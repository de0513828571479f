{{/* Names, labels and images. */}}

{{- define "stepwire.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "stepwire.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "stepwire.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "stepwire.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What pods are chosen by; never changes. Takes {root, part}. */}}
{{- define "stepwire.selector" -}}
app.kubernetes.io/name: {{ include "stepwire.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end -}}

{{- define "stepwire.labels" -}}
{{ include "stepwire.selector" . }}
app.kubernetes.io/part-of: stepwire
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{/* Takes {root, part, suffix}. */}}
{{- define "stepwire.image" -}}
{{- $own := dict -}}
{{- if hasPrefix "worker" .part }}{{ $own = .root.Values.workers.image }}{{ end -}}
{{- $image := .root.Values.image -}}
{{- $repository := default $image.repository $own.repository -}}
{{- $tag := default (default .root.Chart.AppVersion $image.tag) $own.tag -}}
{{- if and $image.digest (not $own.repository) (not .suffix) -}}
{{- printf "%s@%s" $repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s%s" $repository $tag (default "" .suffix) -}}
{{- end -}}
{{- end -}}

{{/* The parts that answer gRPC: module, ports, name of the service whose health is theirs, and whom they call. */}}
{{- define "stepwire.parts" -}}
executor:
  {module: executor_svc, grpc: 50051, metrics: 9101, http: 0, health: "", calls: [], startSeconds: 60}
router:
  {module: router_svc, grpc: 50052, metrics: 9102, http: 50062, health: "", calls: [vector, model], startSeconds: 60}
vector:
  {module: vector_svc, grpc: 50053, metrics: 9103, http: 0, health: "", calls: [model], startSeconds: 60}
model:
  {module: model_svc, grpc: 50054, metrics: 9104, http: 0, health: "", calls: [], startSeconds: 360}
companion:
  {module: gateway, grpc: 50055, metrics: 9105, http: 50065, health: grpc.health.v1.Health, calls: [executor, router, vector, model], startSeconds: 60}
{{- end -}}

{{/* Host and port of a part: a headless service's name stands for all its pods. Takes {root, part, port}. */}}
{{- define "stepwire.target" -}}
{{- $parts := include "stepwire.parts" .root | fromYaml -}}
{{- $port := default (get (get $parts .part) "grpc") .port -}}
{{- printf "%s-%s.%s.svc:%d" (include "stepwire.fullname" .root) .part .root.Release.Namespace (int $port) -}}
{{- end -}}

{{/* The parts that keep something in Postgres; of the companion those are keys. */}}
{{- define "stepwire.stores" -}}
{{- $stores := list "executor" "router" "vector" -}}
{{- if eq .Values.gateway.authentication "keys" }}{{ $stores = append $stores "companion" }}{{ end -}}
{{- toJson $stores -}}
{{- end -}}

{{- define "stepwire.queues" -}}
{{- $queues := list -}}
{{- range .Values.workers.classes }}{{ if .enabled }}{{ $queues = concat $queues .queues }}{{ end }}{{ end -}}
{{- $queues | uniq | toJson -}}
{{- end -}}
