{{/*
A component's deployment, and its budget where one is wanted. `of` with, beside it: `serves`, `ports`
(names and numbers), `adminPort`, `arguments` (YAML), `mounts` and `volumes` (YAML), `resources`,
`proxyResources`, `webhook` (values of its webhook, if it has one), `hosts`, `replicas` (if not as the rest).
*/}}
{{- define "weft.deployment" -}}
{{- $numbers := list -}}
{{- range .ports -}}{{- $numbers = append $numbers (toString .containerPort) -}}{{- end -}}
{{- $version := toString .Values.linkerdVersion -}}
{{- $annotations := dict "cluster-autoscaler.kubernetes.io/safe-to-evict" "true" -}}
{{- if .webhook -}}
{{- $_ := set $annotations "config.linkerd.io/opaque-ports" "8443" -}}
{{- end -}}
{{- range $name, $value := .Values.podAnnotations -}}
{{- $_ := set $annotations $name $value -}}
{{- end -}}
{{- range $name, $value := (.webhook | default dict).podAnnotations -}}
{{- $_ := set $annotations $name $value -}}
{{- end -}}
{{- $_ := set $annotations "linkerd.io/created-by" (printf "weft/%s" $version) -}}
{{- $_ := set $annotations "linkerd.io/proxy-version" $version -}}
{{- with .Values.identityTrustAnchorsPEM -}}
{{- $_ := set $annotations "linkerd.io/trust-root-sha256" (sha256sum .) -}}
{{- end -}}
{{- $labels := dict "linkerd.io/control-plane-component" .component -}}
{{- range $more := list .Values.podLabels .Values.commonLabels -}}
{{- range $name, $value := $more -}}
{{- $_ := set $labels $name $value -}}
{{- end -}}
{{- end -}}
{{- $_ := set $labels "linkerd.io/control-plane-ns" .Values.linkerdNamespace -}}
{{- $_ := set $labels "linkerd.io/workload-ns" .Values.linkerdNamespace -}}
{{- $_ := set $labels "linkerd.io/proxy-deployment" .deployment -}}
{{- $more := dict "app.kubernetes.io/name" .component "app.kubernetes.io/part-of" "Linkerd" "app.kubernetes.io/version" $version -}}
{{- $sidecar := dict "Values" .Values "hosts" .hosts "ports" (join "," $numbers) -}}
{{- $_ := set $sidecar "opaquePorts" (.Values.proxy.opaquePorts | toString) -}}
{{- if .webhook -}}
{{- $_ := set $sidecar "opaquePorts" "8443" -}}
{{- end -}}
{{- $_ := set $sidecar "resources" (include "weft.resources" .proxyResources) -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .deployment }}
  namespace: {{ .Values.linkerdNamespace | quote }}
  labels:
    {{- include "weft.labels" (dict "Values" .Values "component" .component "more" $more) | nindent 4 }}
spec:
  replicas: {{ int64 (.replicas | default .Values.controllerReplicas) }}
  revisionHistoryLimit: {{ int64 .Values.revisionHistoryLimit }}
  selector:
    matchLabels:
      linkerd.io/control-plane-component: {{ .component }}
      linkerd.io/control-plane-ns: {{ .Values.linkerdNamespace | quote }}
      linkerd.io/proxy-deployment: {{ .deployment }}
  strategy:
    {{- toYaml (.Values.deploymentStrategy | default dict) | nindent 4 }}
  template:
    metadata:
      annotations:
        {{- toYaml $annotations | nindent 8 }}
      labels:
        {{- toYaml $labels | nindent 8 }}
    spec:
      serviceAccountName: {{ .deployment }}
      nodeSelector:
        {{- toYaml (.Values.nodeSelector | default dict) | nindent 8 }}
      {{- $affinity := include "weft.affinity" . }}
      {{- if $affinity }}
      affinity:
        {{- $affinity | nindent 8 }}
      {{- end }}
      {{- with .Values.tolerations }}
      tolerations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .Values.imagePullSecrets }}
      imagePullSecrets:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .Values.priorityClassName }}
      priorityClassName: {{ quote . }}
      {{- end }}
      {{- with .Values.runtimeClassName }}
      runtimeClassName: {{ quote . }}
      {{- end }}
      securityContext:
        seccompProfile:
          type: RuntimeDefault
      initContainers:
        - {{- include "weft.init" $sidecar | nindent 10 }}
      containers:
        - {{- include "weft.controller" . | nindent 10 }}
        - {{- include "weft.proxy" $sidecar | nindent 10 }}
      volumes:
        {{- with .volumes }}
        {{- . | nindent 8 }}
        {{- end }}
        {{- if not .Values.cniEnabled }}
        - name: linkerd-proxy-init-xtables-lock
          emptyDir: {}
        {{- end }}
        - name: linkerd-identity-end-entity
          emptyDir:
            medium: Memory
        - name: linkerd-identity-token
          projected:
            sources:
              - serviceAccountToken:
                  path: linkerd-identity-token
                  expirationSeconds: 86400
                  audience: identity.l5d.io
{{- if .Values.enablePodDisruptionBudget }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ .deployment }}
  namespace: {{ .Values.linkerdNamespace | quote }}
  labels:
    {{- include "weft.labels" (dict "Values" .Values "component" .component) | nindent 4 }}
spec:
  maxUnavailable: {{ int64 .Values.controller.podDisruptionBudget.maxUnavailable }}
  selector:
    matchLabels:
      linkerd.io/control-plane-component: {{ .component }}
{{- end }}
{{- end -}}

{{/* The component's own container. */}}
{{- define "weft.controller" -}}
name: {{ .component }}
image: {{ printf "%s:%s" .Values.controllerImage (.Values.controllerImageVersion | default .Values.linkerdVersion | toString) | quote }}
imagePullPolicy: {{ .Values.imagePullPolicy }}
command:
  - weft
args:
  - controller
  - --kubernetes
  - --serve={{ .serves }}
  - {{ printf "--control-namespace=%s" .Values.linkerdNamespace | quote }}
  - {{ printf "--cluster-domain=%s" .Values.clusterDomain | quote }}
  - {{ printf "--trust-domain=%s" .Values.identityTrustDomain | quote }}
  - --admin-port={{ .adminPort }}
  - {{ printf "--log=%s" .Values.controllerLogLevel | quote }}
  - {{ printf "--log-format=%s" .Values.controllerLogFormat | quote }}
  {{- .arguments | nindent 2 }}
ports:
  {{- toYaml .ports | nindent 2 }}
livenessProbe:
  httpGet:
    path: /live
    port: {{ .adminPort }}
  initialDelaySeconds: 10
  timeoutSeconds: 1
readinessProbe:
  httpGet:
    path: /ready
    port: {{ .adminPort }}
  failureThreshold: 7
  timeoutSeconds: 1
{{- $resources := include "weft.resources" .resources }}
{{- if eq $resources "{}" }}
{{- $resources = include "weft.resources" .Values.controllerResources }}
{{- end }}
{{- if ne $resources "{}" }}
resources:
  {{- $resources | nindent 2 }}
{{- end }}
securityContext:
  {{- include "weft.restricted" (dict "uid" .Values.controllerUID "gid" .Values.controllerGID) | nindent 2 }}
terminationMessagePolicy: FallbackToLogsOnError
{{- with .mounts }}
volumeMounts:
  {{- . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* On which nodes, beside which pods; nothing where nothing is said of either. */}}
{{- define "weft.affinity" -}}
{{- with .Values.nodeAffinity -}}
nodeAffinity:
  {{- toYaml . | nindent 2 }}
{{ end -}}
{{- if .Values.enablePodAntiAffinity -}}
podAntiAffinity:
  preferredDuringSchedulingIgnoredDuringExecution:
    - weight: 100
      podAffinityTerm:
        labelSelector:
          matchExpressions:
            - key: linkerd.io/control-plane-component
              operator: In
              values:
                - {{ .component }}
        topologyKey: topology.kubernetes.io/zone
  requiredDuringSchedulingIgnoredDuringExecution:
    - labelSelector:
        matchExpressions:
          - key: linkerd.io/control-plane-component
            operator: In
            values:
              - {{ .component }}
      topologyKey: kubernetes.io/hostname
{{- end -}}
{{- end -}}
