"""A cluster for the contract of `weft policy verdict`: pods placed and not, bare and from workloads, on two nodes,
with Services of every kind in front of them.

`NAMES` are the short names that the rows use.
"""

from __future__ import annotations

CLUSTER = """
apiVersion: v1
kind: Node
metadata: {name: n1}
status: {addresses: [{type: InternalIP, address: 172.30.0.1}, {type: InternalIP, address: 'fd00:172::1'}]}
---
apiVersion: v1
kind: Node
metadata: {name: n2}
status: {addresses: [{type: InternalIP, address: 172.30.0.2}, {type: InternalIP, address: 'fd00:172::2'}]}
---
apiVersion: v1
kind: Namespace
metadata: {name: default, labels: {team: blue, tier: back}}
---
apiVersion: v1
kind: Namespace
metadata: {name: other, labels: {team: red}}
---
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Pod
  metadata: {name: s, namespace: default, labels: {app: s, tier: db}}
  spec:
    nodeName: n1
    serviceAccountName: payer
    containers:
    - name: c
      image: x
      ports:
      - {name: web, containerPort: 80}
      - {name: alt, containerPort: 81}
      - {name: names, containerPort: 53, protocol: UDP}
      - {name: sig, containerPort: 9999, protocol: SCTP}
  status: {podIP: 10.1.1.1, podIPs: [{ip: 10.1.1.1}, {ip: 'fd01::1:1'}]}
- apiVersion: v1
  kind: Pod
  metadata: {name: foo, namespace: default, labels: {app: foo, zone: a}}
  spec: {nodeName: n1, containers: [{name: c, image: x, ports: [{name: web, containerPort: 80}]}]}
  status: {podIP: 10.1.1.2, podIPs: [{ip: 10.1.1.2}, {ip: 'fd01::1:2'}]}
- apiVersion: v1
  kind: Pod
  metadata: {name: bar, namespace: default, labels: {app: bar, zone: b}}
  spec: {nodeName: n2, containers: [{name: c, image: x, ports: [{name: web, containerPort: 8080}]}]}
  status: {podIP: 10.1.2.1, podIPs: [{ip: 10.1.2.1}, {ip: 'fd01::2:1'}]}
- apiVersion: v1
  kind: Pod
  metadata: {name: foo, namespace: other, labels: {app: foo, zone: a}}
  spec: {nodeName: n2, containers: [{name: c, image: x}]}
  status: {podIP: 10.1.2.2}
- apiVersion: v1
  kind: Pod
  metadata: {name: bar, namespace: other, labels: {app: bar}}
  spec: {nodeName: n1, containers: [{name: c, image: x}]}
  status: {podIP: 10.1.1.3}
- apiVersion: v1
  kind: Pod
  metadata: {name: bare, labels: {app: bare}}
  spec: {containers: [{name: c, image: x, ports: [{name: web, containerPort: 80}]}]}
- apiVersion: v1
  kind: Pod
  metadata: {name: lost, namespace: undeclared, labels: {app: lost}}
  spec: {containers: [{name: c, image: x}]}
- apiVersion: v1
  kind: Pod
  metadata: {name: proxy, namespace: default, labels: {app: foo}}
  spec: {nodeName: n2, hostNetwork: true, containers: [{name: c, image: x}]}
  status: {podIP: 172.30.0.2}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: dep}
spec:
  replicas: 2
  selector: {matchLabels: {app: dep}}
  template:
    metadata: {labels: {app: dep}}
    spec: {containers: [{name: c, image: x, ports: [{name: web, containerPort: 7000}]}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db, namespace: other}
spec:
  serviceName: db
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec: {containers: [{name: c, image: x}]}
---
apiVersion: v1
kind: Service
metadata: {name: front, namespace: default, labels: {kind: front}}
spec:
  clusterIP: 10.96.0.50
  selector: {app: s}
  ports: [{name: web, port: 8000, targetPort: web}, {name: alt, port: 81}]
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {clusterIP: 10.96.0.51, selector: {zone: a}, ports: [{port: 80, targetPort: web}]}
---
apiVersion: v1
kind: Service
metadata: {name: both, namespace: default}
spec: {clusterIP: 10.96.0.52, selector: {tier: many}, ports: [{port: 80, targetPort: web}]}
---
apiVersion: v1
kind: Service
metadata: {name: direct}
spec: {clusterIP: None, selector: {app: foo}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: portless}
spec: {clusterIP: None, selector: {app: foo}}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: other}
spec: {clusterIP: None, selector: {app: db}, ports: [{port: 5432}]}
---
apiVersion: v1
kind: Service
metadata: {name: nobody}
spec: {clusterIP: 10.96.0.53, selector: {app: nobody}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: depot}
spec: {clusterIP: 10.96.0.54, selector: {app: dep}, ports: [{port: 80, targetPort: web}]}
---
apiVersion: v1
kind: Service
metadata: {name: abroad, labels: {kind: abroad}}
spec: {clusterIP: 10.96.0.55, ports: [{name: p, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: abroad-1, labels: {kubernetes.io/service-name: abroad}}
addressType: IPv4
ports: [{name: p, port: 8443}]
endpoints: [{addresses: [203.0.113.10]}, {addresses: [203.0.113.66], conditions: {ready: false}}]
---
apiVersion: v1
kind: Service
metadata: {name: kubernetes, namespace: default}
spec: {clusterIP: 10.96.0.1, ports: [{name: https, port: 443, targetPort: 6443}]}
---
apiVersion: cilium.io/v2
kind: CiliumCIDRGroup
metadata: {name: offices, labels: {site: all}}
spec: {externalCIDRs: [203.0.113.0/28, '2001:db8::/64']}
"""

API_OUTSIDE = """
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: kubernetes, namespace: default, labels: {kubernetes.io/service-name: kubernetes}}
addressType: IPv4
ports: [{name: https, port: 6443}]
endpoints: [{addresses: [198.51.100.7]}]
"""
API_ON_NODE = API_OUTSIDE.replace("198.51.100.7", "172.30.0.2")
API_ON_EVERY_NODE = API_OUTSIDE.replace("198.51.100.7", "172.30.0.1, 172.30.0.2")

NAMES = {
    "s": "default/s",
    "foo": "default/foo",
    "bar": "default/bar",
    "xfoo": "other/foo",
    "xbar": "other/bar",
    "bare": "default/bare",
    "lost": "undeclared/lost",
    "dep": "default/dep",
    "db": "other/db-0",
    "world": "203.0.113.10",
    "world2": "203.0.113.20",
    "world6": "2001:db8::10",
    "n1": "172.30.0.1",
    "n2": "172.30.0.2",
    "api": "198.51.100.7",
    "dns": "10.96.0.10",
    "front": "default/front",
    "direct": "default/direct",
}
