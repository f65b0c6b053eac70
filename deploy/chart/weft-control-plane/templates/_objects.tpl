{{/*
What objects have in common. `of` is a dict: Values, component (its name in labels), deployment (the
name of its deployment and service account).
*/}}

{{/* Labels that say whose an object is. Also `more`, further labels. */}}
{{- define "weft.labels" -}}
{{- $labels := dict "linkerd.io/control-plane-ns" .Values.linkerdNamespace -}}
{{- if .component -}}
{{- $_ := set $labels "linkerd.io/control-plane-component" .component -}}
{{- end -}}
{{- range $name, $value := .more -}}
{{- $_ := set $labels $name $value -}}
{{- end -}}
{{- range $name, $value := .Values.commonLabels -}}
{{- $_ := set $labels $name $value -}}
{{- end -}}
{{- toYaml $labels -}}
{{- end -}}

{{/* Requests and limits, as Kubernetes writes them, of `cpu`, `memory` and `ephemeral-storage`. */}}
{{- define "weft.resources" -}}
{{- $requests := dict -}}
{{- $limits := dict -}}
{{- range $name := list "cpu" "memory" "ephemeral-storage" -}}
{{- $said := index ($ | default dict) $name | default dict -}}
{{- $request := toString ($said.request | default "") -}}
{{- $limit := toString ($said.limit | default "") -}}
{{- if $request -}}{{- $_ := set $requests $name $request -}}{{- end -}}
{{- if $limit -}}{{- $_ := set $limits $name $limit -}}{{- end -}}
{{- end -}}
{{- $resources := dict -}}
{{- if $requests -}}{{- $_ := set $resources "requests" $requests -}}{{- end -}}
{{- if $limits -}}{{- $_ := set $resources "limits" $limits -}}{{- end -}}
{{- toYaml $resources -}}
{{- end -}}

{{/* Where an image is, with its tag: a dict of Values and `image`. */}}
{{- define "weft.image" -}}
{{- printf "%s:%s" .image.name (.image.version | default .Values.linkerdVersion | toString) -}}
{{- end -}}

{{/* A time, such as 24h0m0s, in whole seconds. */}}
{{- define "weft.seconds" -}}
{{- $from := toDate "2006-01-02" "2020-01-01" -}}
{{- sub (mustDateModify (toString .) $from | unixEpoch | int64) (unixEpoch $from | int64) -}}
{{- end -}}

{{/* The rights of a container that needs none: a dict of `uid` and `gid`. */}}
{{- define "weft.restricted" -}}
allowPrivilegeEscalation: false
capabilities:
  drop:
    - ALL
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: {{ int64 .uid }}
{{- if ge (int64 .gid) 0 }}
runAsGroup: {{ int64 .gid }}
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* The service account of a component. */}}
{{- define "weft.account" -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ .deployment }}
  namespace: {{ .Values.linkerdNamespace | quote }}
  labels:
    {{- include "weft.labels" . | nindent 4 }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* What gives a component its rights in the whole cluster. */}}
{{- define "weft.clusterRoleBinding" -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: linkerd-{{ .Values.linkerdNamespace }}-{{ .component }}
  labels:
    {{- include "weft.labels" . | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: linkerd-{{ .Values.linkerdNamespace }}-{{ .component }}
subjects:
  - kind: ServiceAccount
    name: {{ .deployment }}
    namespace: {{ .Values.linkerdNamespace | quote }}
{{- end -}}

{{/* What gives a component its rights in its namespace. */}}
{{- define "weft.roleBinding" -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: {{ .deployment }}
  namespace: {{ .Values.linkerdNamespace | quote }}
  labels:
    {{- include "weft.labels" . | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: {{ .deployment }}
subjects:
  - kind: ServiceAccount
    name: {{ .deployment }}
    namespace: {{ .Values.linkerdNamespace | quote }}
{{- end -}}

{{/* A service for proxies: a dict of `of`, `name`, `port` and `headless`. */}}
{{- define "weft.service" -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ .name }}
  namespace: {{ .of.Values.linkerdNamespace | quote }}
  labels:
    {{- include "weft.labels" .of | nindent 4 }}
spec:
  type: ClusterIP
  {{- if .headless }}
  clusterIP: None
  {{- end }}
  selector:
    linkerd.io/control-plane-component: {{ .of.component }}
  ports:
    - name: grpc
      port: {{ .port }}
      targetPort: {{ .port }}
      protocol: TCP
{{- end -}}

{{/* A service for the API server, which speaks TLS of its own: a dict of `of` and `name`. */}}
{{- define "weft.webhookService" -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ .name }}
  namespace: {{ .of.Values.linkerdNamespace | quote }}
  annotations:
    config.linkerd.io/opaque-ports: "443"
  labels:
    {{- include "weft.labels" .of | nindent 4 }}
spec:
  type: ClusterIP
  selector:
    linkerd.io/control-plane-component: {{ .of.component }}
  ports:
    - name: webhook
      port: 443
      targetPort: webhook
      protocol: TCP
{{- end -}}

{{/* A webhook's own certificate, where one is given: a dict of `of`, `name` and `webhook`. */}}
{{- define "weft.webhookSecret" -}}
{{- if and (not .webhook.externalSecret) .webhook.crtPEM .webhook.keyPEM }}
---
apiVersion: v1
kind: Secret
metadata:
  name: {{ .name }}
  namespace: {{ .of.Values.linkerdNamespace | quote }}
  labels:
    {{- include "weft.labels" .of | nindent 4 }}
type: kubernetes.io/tls
data:
  tls.crt: {{ b64enc .webhook.crtPEM | quote }}
  tls.key: {{ b64enc .webhook.keyPEM | quote }}
{{- end }}
{{- end -}}

{{/* Rights to read everything that configures a mesh. */}}
{{- define "weft.read" -}}
- apiGroups: [""]
  resources: ["namespaces", "serviceaccounts", "services", "pods", "nodes"]
  verbs: ["get", "list", "watch"]
- apiGroups: ["apps"]
  resources: ["replicasets"]
  verbs: ["get", "list", "watch"]
- apiGroups: ["batch"]
  resources: ["jobs"]
  verbs: ["get", "list", "watch"]
- apiGroups: ["discovery.k8s.io"]
  resources: ["endpointslices"]
  verbs: ["get", "list", "watch"]
- apiGroups: ["gateway.networking.k8s.io"]
  resources: ["httproutes", "grpcroutes"]
  verbs: ["get", "list", "watch"]
- apiGroups: ["linkerd.io"]
  resources: ["serviceprofiles"]
  verbs: ["get", "list", "watch"]
- apiGroups: ["policy.linkerd.io"]
  resources:
    - servers
    - authorizationpolicies
    - serverauthorizations
    - meshtlsauthentications
    - networkauthentications
    - httproutes
    - httplocalratelimitpolicies
    - egressnetworks
  verbs: ["get", "list", "watch"]
- apiGroups: ["workload.linkerd.io"]
  resources: ["externalworkloads"]
  verbs: ["get", "list", "watch"]
- apiGroups: ["workload.weft.sh"]
  resources: ["workloads"]
  verbs: ["get", "list", "watch"]
{{- end -}}

{{/* What policies and destinations are compiled with, as arguments. */}}
{{- define "weft.mesh.arguments" -}}
- {{ printf "--cluster-networks=%s" .Values.clusterNetworks | quote }}
- {{ printf "--default-inbound-policy=%s" .Values.proxy.defaultInboundPolicy | quote }}
- {{ printf "--opaque-ports=%s" (toString .Values.proxy.opaquePorts) | quote }}
- {{ printf "--probe-networks=%s" (join "," .Values.policyController.probeNetworks) | quote }}
- {{ printf "--egress-namespace=%s" .Values.egress.globalEgressNetworkNamespace | quote }}
- {{ printf "--outbound-transport-mode=%s" .Values.proxy.outboundTransportMode | quote }}
{{- if not .Values.enableH2Upgrade }}
- --disable-h2-upgrade
{{- end }}
{{- if not .Values.disableIPv6 }}
- --prefer-ipv6
{{- end }}
{{- end -}}
