{{/* The name of everything the chart makes. */}}
{{- define "niks3.name" -}}
{{- if contains "niks3" .Release.Name -}}
{{- printf "%s-operator" .Release.Name | replace "-operator-operator" "-operator" | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-niks3-operator" .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "niks3.selector" -}}
app.kubernetes.io/name: niks3-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "niks3.labels" -}}
{{ include "niks3.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* With a digest, the digest decides; a tag before it is for people. */}}
{{- define "niks3.image" -}}
{{- .Values.image.repository -}}
{{- if or .Values.image.tag (not .Values.image.digest) -}}:{{ .Values.image.tag | default .Chart.AppVersion }}{{- end -}}
{{- with .Values.image.digest -}}@{{ . }}{{- end -}}
{{- end -}}
