{{/* Environment variables, as lists of a container's `env`. */}}

{{/* What every process of Stepwire has. Takes {root, part, prefix, values, metrics}. */}}
{{- define "stepwire.env.process" -}}
- {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
- {name: POD_NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
- {name: NODE_NAME, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
- name: STEPWIRE_{{ .prefix }}_HOST
  value: 0.0.0.0
- name: STEPWIRE_{{ .prefix }}_METRICS_PORT
  value: {{ .metrics | quote }}
{{- $telemetry := .root.Values.telemetry }}
{{- if ne .prefix "GATEWAY" }}
- name: STEPWIRE_{{ .prefix }}_LOG_LEVEL
  value: {{ $telemetry.logLevel }}
{{- end }}
{{- if $telemetry.otlpEndpoint }}
- name: OTEL_RESOURCE_ATTRIBUTES
  value: k8s.namespace.name=$(POD_NAMESPACE),k8s.pod.name=$(POD_NAME),k8s.node.name=$(NODE_NAME)
{{- if ne .prefix "GATEWAY" }}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ $telemetry.otlpEndpoint | quote }}
- name: OTEL_TRACES_SAMPLER
  value: parentbased_traceidratio
- name: OTEL_TRACES_SAMPLER_ARG
  value: {{ $telemetry.sampling | quote }}
{{- else }}
- name: STEPWIRE_GATEWAY_OTLP_TARGET
  value: {{ regexReplaceAll "^https?://" $telemetry.otlpEndpoint "" | trimSuffix "/" | quote }}
- name: STEPWIRE_GATEWAY_TRACE_SAMPLING_PERCENT
  value: {{ mulf $telemetry.sampling 100 | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "stepwire.env.drain" -}}
- name: STEPWIRE_{{ .prefix }}_DRAIN_SECONDS
  value: {{ .values.drainSeconds | quote }}
{{- end -}}

{{- define "stepwire.env.postgres" -}}
- name: STEPWIRE_{{ .prefix }}_POSTGRES_URL
  valueFrom:
    secretKeyRef: {name: {{ .root.Values.postgres.existingSecret }}, key: {{ .root.Values.postgres.key }}}
{{- end -}}

{{- define "stepwire.env.rabbitmq" -}}
- name: STEPWIRE_{{ .prefix }}_RABBITMQ_URL
  valueFrom:
    secretKeyRef: {name: {{ .root.Values.rabbitmq.existingSecret }}, key: {{ .root.Values.rabbitmq.key }}}
{{- end -}}

{{/* Addresses of other parts. Takes {root, prefix, calls}. */}}
{{- define "stepwire.env.targets" -}}
{{- $here := . }}
{{- range .calls }}
- name: STEPWIRE_{{ $here.prefix }}_{{ upper . }}_TARGET
  value: {{ include "stepwire.target" (dict "root" $here.root "part" .) }}
{{- end }}
{{- end -}}

{{/* What the user adds. Takes {prefix, values}. */}}
{{- define "stepwire.env.own" -}}
{{- $prefix := .prefix }}
{{- range $name, $value := .values.settings }}
- name: STEPWIRE_{{ $prefix }}_{{ $name }}
  value: {{ ternary $value (toJson $value) (kindIs "string" $value) | quote }}
{{- end }}
{{- range $name, $from := .values.secretSettings }}
- name: STEPWIRE_{{ $prefix }}_{{ $name }}
  valueFrom:
    secretKeyRef: {name: {{ $from.secret }}, key: {{ $from.key }}}
{{- end }}
{{- with .values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}
