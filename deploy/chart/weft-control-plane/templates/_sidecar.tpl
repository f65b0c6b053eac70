{{/*
The control plane's own sidecar: a workload's, but that it must not wait for what it carries. A dict
of Values and, beside it: `opaquePorts`, `ports` (those of the component), `resources`, `hosts` (the
part of the control plane in this very pod).
*/}}

{{/* What redirects the pod's traffic, or checks that a CNI plugin has done so. */}}
{{- define "weft.init" -}}
{{- $proxy := .Values.proxy -}}
{{- $init := .Values.proxyInit -}}
{{- $image := include "weft.image" (dict "Values" .Values "image" $init.image) -}}
{{- $setsKernel := gt (int64 $init.closeWaitTimeoutSecs) 0 -}}
{{- if .Values.cniEnabled -}}
name: linkerd-network-validator
image: {{ quote $image }}
imagePullPolicy: {{ $init.image.pullPolicy | default .Values.imagePullPolicy }}
command:
  - weft-init
args:
  - validate
  - --connect-addr
  - 1.1.1.1:20001
  - --listen-addr
  - 0.0.0.0:{{ int64 $proxy.ports.outbound }}
resources:
  {{- include "weft.resources" $init.resources | nindent 2 }}
securityContext:
  {{- include "weft.restricted" (dict "uid" 65534 "gid" -1) | nindent 2 }}
terminationMessagePolicy: FallbackToLogsOnError
{{- else -}}
name: linkerd-init
image: {{ quote $image }}
imagePullPolicy: {{ $init.image.pullPolicy | default .Values.imagePullPolicy }}
command:
  - weft-init
args:
  - {{ printf "--firewall-mode=%s" $init.iptablesMode | quote }}
  - --incoming-proxy-port={{ int64 $proxy.ports.inbound }}
  - --outgoing-proxy-port={{ int64 $proxy.ports.outbound }}
  - --proxy-uid={{ int64 $proxy.uid }}
  {{- $own := printf "%d,%d" (int64 $proxy.ports.control) (int64 $proxy.ports.admin) }}
  - {{ list $own ($init.ignoreInboundPorts | default "" | toString) | compact | join "," | printf "--inbound-ports-to-ignore=%s" | quote }}
  - {{ list ($init.kubeAPIServerPorts | default "" | toString) ($init.ignoreOutboundPorts | default "" | toString) | compact | join "," | printf "--outbound-ports-to-ignore=%s" | quote }}
  {{- if ge (int64 $proxy.gid) 0 }}
  - --proxy-gid={{ int64 $proxy.gid }}
  {{- end }}
  {{- with $init.skipSubnets }}
  - {{ printf "--subnets-to-ignore=%s" . | quote }}
  {{- end }}
  {{- if $setsKernel }}
  - --timeout-close-wait-secs={{ int64 $init.closeWaitTimeoutSecs }}
  {{- end }}
  {{- if .Values.disableIPv6 }}
  - --ipv6=false
  {{- end }}
resources:
  {{- include "weft.resources" $init.resources | nindent 2 }}
securityContext:
  allowPrivilegeEscalation: {{ $setsKernel }}
  capabilities:
    add:
      - NET_ADMIN
      - NET_RAW
    drop:
      - ALL
  privileged: {{ $setsKernel }}
  readOnlyRootFilesystem: true
  runAsNonRoot: false
  runAsUser: 0
  seccompProfile:
    type: RuntimeDefault
terminationMessagePolicy: FallbackToLogsOnError
volumeMounts:
  - mountPath: /run
    name: linkerd-proxy-init-xtables-lock
{{- end -}}
{{- end -}}

{{/* The sidecar's container. */}}
{{- define "weft.proxy" -}}
{{- $proxy := .Values.proxy -}}
{{- $env := include "weft.env" . | fromYamlArray -}}
{{- range $further := $proxy.additionalEnv -}}
{{- $kept := list -}}
{{- range $env -}}
{{- if ne .name $further.name -}}{{- $kept = append $kept . -}}{{- end -}}
{{- end -}}
{{- $env = append $kept $further -}}
{{- end -}}
name: linkerd-proxy
image: {{ include "weft.image" (dict "Values" .Values "image" $proxy.image) | quote }}
imagePullPolicy: {{ $proxy.image.pullPolicy | default .Values.imagePullPolicy }}
command:
  - weft-proxy
env:
  {{- toYaml $env | nindent 2 }}
ports:
  - name: linkerd-proxy
    containerPort: {{ int64 $proxy.ports.inbound }}
  - name: linkerd-admin
    containerPort: {{ int64 $proxy.ports.admin }}
livenessProbe:
  httpGet:
    path: /live
    port: {{ int64 $proxy.ports.admin }}
  initialDelaySeconds: 10
  timeoutSeconds: 1
readinessProbe:
  httpGet:
    path: /ready
    port: {{ int64 $proxy.ports.admin }}
  initialDelaySeconds: 2
  timeoutSeconds: 1
{{- $resources := .resources }}
{{- if eq $resources "{}" }}
{{- $resources = include "weft.resources" $proxy.resources }}
{{- end }}
{{- if ne $resources "{}" }}
resources:
  {{- $resources | nindent 2 }}
{{- end }}
{{- if gt (int64 $proxy.waitBeforeExitSeconds) 0 }}
lifecycle:
  preStop:
    exec:
      command:
        - weft-init
        - sleep
        - {{ int64 $proxy.waitBeforeExitSeconds | toString | quote }}
{{- end }}
securityContext:
  {{- include "weft.restricted" (dict "uid" $proxy.uid "gid" $proxy.gid) | nindent 2 }}
terminationMessagePolicy: FallbackToLogsOnError
volumeMounts:
  - mountPath: /var/run/linkerd/identity/end-entity
    name: linkerd-identity-end-entity
  - mountPath: /var/run/secrets/tokens
    name: linkerd-identity-token
{{- end -}}

{{/* The sidecar's environment. Kubernetes expands $(NAME) from variables that come before. */}}
{{- define "weft.env" -}}
{{- $proxy := .Values.proxy -}}
{{- $namespace := .Values.linkerdNamespace -}}
{{- $trustDomain := .Values.identityTrustDomain -}}
{{- $any := ternary "0.0.0.0" "[::]" .Values.disableIPv6 -}}
{{- $outbound := int64 $proxy.ports.outbound -}}
- name: _pod_name
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: _pod_ns
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
- name: _pod_uid
  valueFrom:
    fieldRef:
      fieldPath: metadata.uid
- name: _pod_nodeName
  valueFrom:
    fieldRef:
      fieldPath: spec.nodeName
- name: _pod_sa
  valueFrom:
    fieldRef:
      fieldPath: spec.serviceAccountName
- name: LINKERD2_PROXY_INBOUND_IPS
  valueFrom:
    fieldRef:
      fieldPath: status.podIPs
- name: LINKERD2_PROXY_DESTINATION_CONTEXT
  value: '{"ns":"$(_pod_ns)", "nodeName":"$(_pod_nodeName)", "pod":"$(_pod_name)"}'
- name: LINKERD2_PROXY_POLICY_WORKLOAD
  value: '{"ns":"$(_pod_ns)", "pod":"$(_pod_name)"}'
- name: LINKERD2_PROXY_CONTROL_LISTEN_ADDR
  value: {{ printf "%s:%d" $any (int64 $proxy.ports.control) | quote }}
- name: LINKERD2_PROXY_ADMIN_LISTEN_ADDR
  value: {{ printf "%s:%d" $any (int64 $proxy.ports.admin) | quote }}
- name: LINKERD2_PROXY_OUTBOUND_LISTEN_ADDR
  value: {{ printf "127.0.0.1:%d" $outbound | quote }}
- name: LINKERD2_PROXY_OUTBOUND_LISTEN_ADDRS
  {{- if .Values.disableIPv6 }}
  value: {{ printf "127.0.0.1:%d" $outbound | quote }}
  {{- else }}
  value: {{ printf "127.0.0.1:%d,[::1]:%d" $outbound $outbound | quote }}
  {{- end }}
- name: LINKERD2_PROXY_INBOUND_LISTEN_ADDR
  value: {{ printf "%s:%d" $any (int64 $proxy.ports.inbound) | quote }}
- name: LINKERD2_PROXY_INBOUND_PORTS
  value: {{ $proxy.podInboundPorts | default .ports | toString | quote }}
- name: LINKERD2_PROXY_INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION
  value: {{ .opaquePorts | toString | quote }}
{{- with $proxy.requireIdentityOnInboundPorts }}
- name: LINKERD2_PROXY_INBOUND_PORTS_REQUIRE_IDENTITY
  value: {{ toString . | quote }}
{{- end }}
{{- range $direction := list "INBOUND_ACCEPT" "OUTBOUND_CONNECT" }}
- name: LINKERD2_PROXY_{{ $direction }}_KEEPALIVE
  value: 10000ms
- name: LINKERD2_PROXY_{{ $direction }}_USER_TIMEOUT
  value: 30s
{{- end }}
{{- range $direction := list "INBOUND" "OUTBOUND" }}
- name: LINKERD2_PROXY_{{ $direction }}_SERVER_HTTP2_KEEP_ALIVE_INTERVAL
  value: 10s
- name: LINKERD2_PROXY_{{ $direction }}_SERVER_HTTP2_KEEP_ALIVE_TIMEOUT
  value: 3s
{{- end }}
{{- $services := list
  (list "DESTINATION" "linkerd-dst-headless" "8086" "destination")
  (list "POLICY" "linkerd-policy" "8090" "destination")
  (list "IDENTITY" "linkerd-identity-headless" "8080" "identity") }}
{{- range $service := $services }}
{{- $name := index $service 0 }}
{{- $serves := index $service 3 }}
- name: LINKERD2_PROXY_{{ $name }}_SVC_ADDR
  {{- if eq $serves $.hosts }}
  value: localhost.:{{ index $service 2 }}
  {{- else }}
  value: {{ printf "%s.%s.svc.%s.:%s" (index $service 1) $namespace $.Values.clusterDomain (index $service 2) | quote }}
  {{- end }}
- name: LINKERD2_PROXY_{{ $name }}_SVC_NAME
  value: {{ printf "linkerd-%s.%s.serviceaccount.identity.%s.%s" $serves $namespace $namespace $trustDomain | quote }}
{{- end }}
{{- if .Values.viz.enabled }}
- name: LINKERD2_PROXY_TAP_SVC_NAME
  value: {{ printf "linkerd-viz.%s.serviceaccount.identity.%s.%s" $namespace $namespace $trustDomain | quote }}
{{- end }}
- name: LINKERD2_PROXY_DESTINATION_PROFILE_NETWORKS
  value: {{ quote .Values.clusterNetworks }}
- name: LINKERD2_PROXY_POLICY_CLUSTER_NETWORKS
  value: {{ quote .Values.clusterNetworks }}
- name: LINKERD2_PROXY_CONTROL_STREAM_INITIAL_TIMEOUT
  value: {{ quote $proxy.control.streams.initialTimeout }}
- name: LINKERD2_PROXY_CONTROL_STREAM_IDLE_TIMEOUT
  value: {{ quote $proxy.control.streams.idleTimeout }}
- name: LINKERD2_PROXY_CONTROL_STREAM_LIFETIME
  value: {{ quote $proxy.control.streams.lifetime }}
- name: LINKERD2_PROXY_LOG
  value: {{ quote $proxy.logLevel }}
- name: LINKERD2_PROXY_LOG_FORMAT
  value: {{ quote $proxy.logFormat }}
- name: LINKERD2_PROXY_INBOUND_DEFAULT_POLICY
  value: all-unauthenticated
- name: LINKERD2_PROXY_SHUTDOWN_ENDPOINT_ENABLED
  value: {{ $proxy.enableShutdownEndpoint | toString | quote }}
- name: LINKERD2_PROXY_INBOUND_CONNECT_TIMEOUT
  value: {{ quote $proxy.inboundConnectTimeout }}
- name: LINKERD2_PROXY_OUTBOUND_CONNECT_TIMEOUT
  value: {{ quote $proxy.outboundConnectTimeout }}
- name: LINKERD2_PROXY_OUTBOUND_DISCOVERY_IDLE_TIMEOUT
  value: {{ quote $proxy.outboundDiscoveryCacheUnusedTimeout }}
- name: LINKERD2_PROXY_INBOUND_DISCOVERY_IDLE_TIMEOUT
  value: {{ quote $proxy.inboundDiscoveryCacheUnusedTimeout }}
- name: LINKERD2_PROXY_DESTINATION_PROFILE_SUFFIXES
  {{- if $proxy.enableExternalProfiles }}
  value: "."
  {{- else }}
  value: {{ printf "svc.%s." .Values.clusterDomain | quote }}
  {{- end }}
{{- with $proxy.accessLog }}
- name: LINKERD2_PROXY_ACCESS_LOG
  value: {{ quote . }}
{{- end }}
{{- with $proxy.shutdownGracePeriod }}
- name: LINKERD2_PROXY_SHUTDOWN_GRACE_PERIOD
  value: {{ quote . }}
{{- end }}
{{- if gt (int64 $proxy.runtime.workers.minimum) 1 }}
- name: LINKERD2_PROXY_CORES_MIN
  value: {{ int64 $proxy.runtime.workers.minimum | toString | quote }}
{{- end }}
{{- if not (kindIs "invalid" $proxy.runtime.workers.maximumCPURatio) }}
- name: LINKERD2_PROXY_CORES_MAX_RATIO
  value: {{ $proxy.runtime.workers.maximumCPURatio | toString | quote }}
{{- end }}
{{- if $proxy.metrics.hostnameLabels }}
- name: LINKERD2_PROXY_OUTBOUND_METRICS_HOSTNAME_LABELS
  value: "true"
{{- end }}
{{- if $proxy.disableOutboundProtocolDetectTimeout }}
- name: LINKERD2_PROXY_OUTBOUND_DETECT_TIMEOUT
  value: 365d
{{- end }}
{{- if $proxy.disableInboundProtocolDetectTimeout }}
- name: LINKERD2_PROXY_INBOUND_DETECT_TIMEOUT
  value: 365d
{{- end }}
{{- if $proxy.tracing.enabled }}
{{- $collector := $proxy.tracing.collector }}
- name: LINKERD2_PROXY_TRACE_COLLECTOR_SVC_ADDR
  value: {{ quote $collector.endpoint }}
- name: LINKERD2_PROXY_TRACE_COLLECTOR_SVC_NAME
  value: {{ printf "%s.%s.serviceaccount.identity.%s.%s" $collector.meshIdentity.serviceAccountName $collector.meshIdentity.namespace $namespace $trustDomain | quote }}
- name: LINKERD2_PROXY_TRACE_SERVICE_NAME
  value: {{ quote $proxy.tracing.traceServiceName }}
- name: LINKERD2_PROXY_TRACE_EXTRA_ATTRIBUTES
  value: "k8s.namespace.name=$(_pod_ns)\nk8s.pod.name=$(_pod_name)\nk8s.pod.uid=$(_pod_uid)\nk8s.node.name=$(_pod_nodeName)\nk8s.container.name=linkerd-proxy\n"
{{- end }}
- name: _l5d_ns
  value: {{ quote $namespace }}
- name: _l5d_trustdomain
  value: {{ quote $trustDomain }}
- name: LINKERD2_PROXY_IDENTITY_DIR
  value: /var/run/linkerd/identity/end-entity
- name: LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS
  valueFrom:
    configMapKeyRef:
      name: linkerd-identity-trust-roots
      key: ca-bundle.crt
- name: LINKERD2_PROXY_IDENTITY_TOKEN_FILE
  value: /var/run/secrets/tokens/linkerd-identity-token
- name: LINKERD2_PROXY_IDENTITY_LOCAL_NAME
  value: {{ printf "$(_pod_sa).$(_pod_ns).serviceaccount.identity.%s.%s" $namespace $trustDomain | quote }}
{{- end -}}
