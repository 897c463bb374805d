{{/* The dashboard of files/dashboard.yaml as Grafana's JSON: 24 columns wide, each row shared by its panels. */}}
{{- define "modelrelease.dashboard" -}}
{{- $source := dict "type" "prometheus" "uid" "${datasource}" -}}
{{- $panels := list -}}
{{- $id := 0 -}}
{{- $y := 0 -}}
{{- range .Files.Get "files/dashboard.yaml" | fromYamlArray -}}
{{- $id = add1 $id -}}
{{- $panels = append $panels (dict "id" $id "type" "row" "title" .row "collapsed" false "panels" list "gridPos" (dict "x" 0 "y" $y "w" 24 "h" 1)) -}}
{{- $y = add1 $y -}}
{{- $width := div 24 (len .panels) -}}
{{- $height := ternary 4 8 (eq (first .panels).type "stat") -}}
{{- range $column, $panel := .panels -}}
{{- $id = add1 $id -}}
{{- $targets := list -}}
{{- range $number, $query := $panel.queries -}}
{{- $table := eq $panel.type "table" -}}
{{- $target := dict "refId" (printf "%c" (int (add 65 $number))) "datasource" $source "expr" $query.expr "instant" $table "format" (ternary "table" "time_series" $table) -}}
{{- with $query.legend }}{{ $target = set $target "legendFormat" . }}{{ end -}}
{{- $targets = append $targets $target -}}
{{- end -}}
{{- $defaults := dict "unit" ($panel.unit | default "short") "min" 0 -}}
{{- $panels = append $panels (dict "id" $id "type" $panel.type "title" $panel.title "datasource" $source "targets" $targets "fieldConfig" (dict "defaults" $defaults "overrides" list) "gridPos" (dict "x" (mul $column $width) "y" $y "w" $width "h" $height)) -}}
{{- end -}}
{{- $y = add $y $height -}}
{{- end -}}
{{- $choices := list (dict "name" "datasource" "type" "datasource" "query" "prometheus") -}}
{{- range list "namespace" "release" -}}
{{- $choices = append $choices (dict "name" . "type" "query" "datasource" $source "query" (printf "label_values(modelrelease_release_phase, %s)" .) "includeAll" true "multi" true "allValue" ".*" "refresh" 2 "current" (dict "text" "All" "value" "$__all")) -}}
{{- end -}}
{{- dict "uid" "modelrelease" "title" "modelrelease" "tags" (list "modelrelease") "schemaVersion" 39 "editable" false "refresh" "30s" "time" (dict "from" "now-6h" "to" "now") "templating" (dict "list" $choices) "panels" $panels | toPrettyJson -}}
{{- end }}
