{{- define "signpost.name" -}}
{{- printf "%s-%s" .Release.Name "region" | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- define "signpost.selector" -}}
app.kubernetes.io/name: signpost-region
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "signpost.labels" -}}
{{ include "signpost.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{- define "signpost.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "signpost.name" .) -}}
{{- end -}}

{{- define "signpost.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag }}{{ end }}
{{- end -}}
{{- end -}}
