"""What the facts apply."""


def namespace(name):
    return f"apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n"


def apps(namespace, options):
    """A server of HTTP and of bytes, two clients, and one outside of the mesh."""
    server = ("mkdir /tmp/www && hostname > /tmp/www/index.html && hostname > /tmp/www/ready && "
              "(while true; do nc -l -p 9000 -e cat; done &) ; exec httpd -f -p 8080 -h /tmp/www")
    sleeper = "exec sleep 86400"
    return "---\n".join([
        service(namespace),
        app(namespace, "web", options.server_image, server, replicas=3,
            ports="[{name: http, containerPort: 8080}, {name: echo, containerPort: 9000}]"),
        app(namespace, "client", options.client_image, sleeper),
        app(namespace, "other", options.client_image, sleeper),
        app(namespace, "stranger", options.client_image, sleeper, inject="disabled"),
    ])


def service(namespace):
    return f"""apiVersion: v1
kind: Service
metadata: {{name: web, namespace: {namespace}}}
spec:
  selector: {{app: web}}
  ports:
  - {{name: http, port: 80, targetPort: http}}
  - {{name: echo, port: 9000, targetPort: echo}}
"""


def app(namespace, name, image, command, replicas=1, ports="[]", inject=None):
    annotation = f"annotations: {{linkerd.io/inject: {inject}}}, " if inject else ""
    probe = "readinessProbe: {httpGet: {path: /ready, port: http}, periodSeconds: 1}" if ports != "[]" else ""
    return f"""apiVersion: v1
kind: ServiceAccount
metadata: {{name: {name}, namespace: {namespace}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: {namespace}, labels: {{app: {name}}}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{{annotation}labels: {{app: {name}}}}}
    spec:
      serviceAccountName: {name}
      terminationGracePeriodSeconds: 10
      containers:
      - name: {name}
        image: {image}
        imagePullPolicy: IfNotPresent
        command: [sh, -c, '{command}']
        ports: {ports}
        lifecycle: {{preStop: {{exec: {{command: [sleep, "3"]}}}}}}
        {probe}
"""


def policy(namespace, identity):
    """The client alone may use the server."""
    return f"""apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {{name: web-http, namespace: {namespace}}}
spec:
  podSelector: {{matchLabels: {{app: web}}}}
  port: http
  proxyProtocol: HTTP/1
---
apiVersion: policy.linkerd.io/v1alpha1
kind: MeshTLSAuthentication
metadata: {{name: client, namespace: {namespace}}}
spec: {{identities: [{identity}]}}
---
apiVersion: policy.linkerd.io/v1alpha1
kind: AuthorizationPolicy
metadata: {{name: client, namespace: {namespace}}}
spec:
  targetRef: {{group: policy.linkerd.io, kind: Server, name: web-http}}
  requiredAuthenticationRefs: [{{group: policy.linkerd.io, kind: MeshTLSAuthentication, name: client}}]
"""


def wrong_server(namespace):
    """Of a port that a Server has already."""
    return f"""apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {{name: web-again, namespace: {namespace}}}
spec: {{podSelector: {{matchLabels: {{app: web}}}}, port: http}}
"""


def wrong_network(namespace):
    return f"""apiVersion: policy.linkerd.io/v1alpha1
kind: NetworkAuthentication
metadata: {{name: wrong, namespace: {namespace}}}
spec: {{networks: [{{cidr: 10.0.0.0/40}}]}}
"""


def opaque_server(namespace):
    """Nobody may use the port of bytes."""
    return f"""apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {{name: web-echo, namespace: {namespace}}}
spec: {{podSelector: {{matchLabels: {{app: web}}}}, port: echo, proxyProtocol: opaque}}
"""


def service_of_nobody(namespace):
    return f"""apiVersion: v1
kind: Service
metadata: {{name: nobody, namespace: {namespace}}}
spec:
  selector: {{app: nobody}}
  ports: [{{name: http, port: 80}}]
"""
