{{/*
Names are fixed, not made of the release's: two operators in one cluster would both act on every event, so a second
release must fail, and it does, because the ClusterRoles belong to the first.
*/}}

{{- define "signalbox.selectorLabels" -}}
app.kubernetes.io/name: signalbox
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "signalbox.labels" -}}
{{ include "signalbox.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "signalbox.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{- define "signalbox.everywhere" -}}
{{- if has "*" .Values.rules.namespaces }}true{{ end -}}
{{- end }}

{{- /* Bytes of a quantity as a product that PromQL computes: 2Gi is "2 * 1024^3". */}}
{{- define "signalbox.bytes" -}}
{{- $unit := regexFind "[A-Za-z]*$" . -}}
{{- $factors := dict "Ki" "1024" "Mi" "1024^2" "Gi" "1024^3" "Ti" "1024^4" "k" "1e3" "M" "1e6" "G" "1e9" "T" "1e12" -}}
{{ trimSuffix $unit . }}{{ with $unit }} * {{ get $factors . }}{{ end }}
{{- end }}
