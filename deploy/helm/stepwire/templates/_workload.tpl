{{/* What all workloads share. */}}

{{/* Values of a pod: the part's own before the defaults. Takes {root, values}. */}}
{{- define "stepwire.pod" -}}
{{- toYaml (mergeOverwrite (deepCopy .root.Values.podDefaults) (pick .values "podAnnotations" "podLabels" "nodeSelector" "tolerations" "affinity" "priorityClassName" "spread")) -}}
{{- end -}}

{{- define "stepwire.pod.metadata" -}}
{{- $pod := include "stepwire.pod" . | fromYaml -}}
labels:
  {{- include "stepwire.labels" . | nindent 2 }}
  {{- with $pod.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with $pod.podAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* The pod's spec but for its containers and volumes. Takes {root, part, values, graceSeconds}. */}}
{{- define "stepwire.pod.spec" -}}
{{- $pod := include "stepwire.pod" . | fromYaml -}}
serviceAccountName: {{ include "stepwire.fullname" .root }}
automountServiceAccountToken: false
# Kubernetes would set STEPWIRE_ROUTER_PORT and the like, which are names of settings.
enableServiceLinks: false
terminationGracePeriodSeconds: {{ .graceSeconds }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile: {type: RuntimeDefault}
topologySpreadConstraints:
  {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: {{ $pod.spread }}
    labelSelector:
      matchLabels:
        {{- include "stepwire.selector" $ | nindent 8 }}
  {{- end }}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $pod.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $pod.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $pod.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $pod.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "stepwire.container.security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* Takes {root, part}. */}}
{{- define "stepwire.pdb" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "stepwire.fullname" .root }}-{{ .part }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "stepwire.labels" . | nindent 4 }}
spec:
  maxUnavailable: 1
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "stepwire.selector" . | nindent 6 }}
{{- end -}}

{{/* Takes {root, part, values}. */}}
{{- define "stepwire.hpa" -}}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: {{ include "stepwire.fullname" .root }}-{{ .part }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "stepwire.labels" . | nindent 4 }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: Deployment
    name: {{ include "stepwire.fullname" .root }}-{{ .part }}
  # An HPA on CPU alone cannot begin at nothing.
  minReplicas: {{ max 1 (int .values.autoscaling.min) }}
  maxReplicas: {{ .values.autoscaling.max }}
  metrics:
    - type: Resource
      resource:
        name: cpu
        target: {type: Utilization, averageUtilization: {{ .values.autoscaling.cpuPercent }}}
  behavior:
    scaleUp:
      stabilizationWindowSeconds: 0
    # Pods that go take their connections, or their steps, with them: one at a time.
    scaleDown:
      stabilizationWindowSeconds: 300
      policies:
        - {type: Pods, value: 1, periodSeconds: 60}
{{- end -}}
