{{/* Names and labels that several templates share. */}}

{{- define "modelrelease.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "modelrelease.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else if contains (include "modelrelease.name" .) .Release.Name }}
{{- .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "modelrelease.name" .) | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "modelrelease.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- .Values.serviceAccount.name | default (include "modelrelease.fullname" .) }}
{{- else }}
{{- .Values.serviceAccount.name | default "default" }}
{{- end }}
{{- end }}

{{- define "modelrelease.selectorLabels" -}}
app.kubernetes.io/name: {{ include "modelrelease.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "modelrelease.labels" -}}
{{ include "modelrelease.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "modelrelease.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) }}
{{- end }}
{{- end }}

{{/* The operator's endpoints file, empty where no endpoint is listed. A Secret is where it is mounted. */}}
{{- define "modelrelease.endpoints" -}}
{{- $file := dict -}}
{{- range $kind := list "registries" "prometheuses" -}}
{{- $listed := list -}}
{{- range (index $.Values.endpoints $kind) -}}
{{- $one := omit . "secret" -}}
{{- if .secret -}}
{{- $one = set $one "credentialsDir" (printf "/etc/modelrelease/%s/%s" $kind .name) -}}
{{- end -}}
{{- $listed = append $listed $one -}}
{{- end -}}
{{- if $listed -}}
{{- $file = set $file $kind $listed -}}
{{- end -}}
{{- end -}}
{{- if $file -}}
{{- range list "defaultRegistry" "defaultPrometheus" -}}
{{- if index $.Values.endpoints . -}}
{{- $file = set $file . (index $.Values.endpoints .) -}}
{{- end -}}
{{- end -}}
{{- toYaml $file -}}
{{- end -}}
{{- end }}
