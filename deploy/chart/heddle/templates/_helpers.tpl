{{- define "heddle.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "heddle.labels" -}}
tier: node
app: flannel
k8s-app: flannel
{{- end }}

{{- define "heddle.backend" -}}
{{- $f := .Values.flannel -}}
{{- $b := dict "Type" $f.backend -}}
{{- if $f.mtu }}{{ $_ := set $b "MTU" (int $f.mtu) }}{{ end -}}
{{- if eq $f.backend "vxlan" -}}
{{- if $f.vni }}{{ $_ := set $b "VNI" (int $f.vni) }}{{ end -}}
{{- if $f.backendPort }}{{ $_ := set $b "Port" (int $f.backendPort) }}{{ end -}}
{{- if $f.GBP }}{{ $_ := set $b "GBP" true }}{{ end -}}
{{- if $f.macPrefix }}{{ $_ := set $b "MacPrefix" $f.macPrefix }}{{ end -}}
{{- end -}}
{{- if and $f.directRouting (has $f.backend (list "vxlan" "ipip")) }}{{ $_ := set $b "DirectRouting" true }}{{ end -}}
{{- if and (eq $f.backend "udp") $f.backendPort }}{{ $_ := set $b "Port" (int $f.backendPort) }}{{ end -}}
{{- if eq $f.backend "wireguard" -}}
{{- if $f.backendPort }}{{ $_ := set $b "ListenPort" (int $f.backendPort) }}{{ end -}}
{{- if $f.backendPortv6 }}{{ $_ := set $b "ListenPortV6" (int $f.backendPortv6) }}{{ end -}}
{{- if $f.tunnelMode }}{{ $_ := set $b "Mode" $f.tunnelMode }}{{ end -}}
{{- if $f.psk }}{{ $_ := set $b "PSK" $f.psk }}{{ end -}}
{{- if $f.keepaliveInterval }}{{ $_ := set $b "PersistentKeepaliveInterval" (int $f.keepaliveInterval) }}{{ end -}}
{{- end -}}
{{- toJson $b -}}
{{- end }}

{{- define "heddle.netConf" -}}
{{- $c := dict "EnableNFTables" .Values.flannel.enableNFTables "Backend" (include "heddle.backend" . | fromJson) -}}
{{- if .Values.podCidr }}{{ $_ := set $c "Network" .Values.podCidr }}{{ else }}{{ $_ := set $c "EnableIPv4" false }}{{ end -}}
{{- if .Values.podCidrv6 }}{{ $_ := set $c "EnableIPv6" true }}{{ $_ := set $c "IPv6Network" .Values.podCidrv6 }}{{ end -}}
{{- toPrettyJson $c -}}
{{- end }}
