"""`weft local`: a cluster on one machine, from plain Kubernetes manifests, with no Kubernetes.

In: objects as the operator's store holds them (files the user gave, folders that are followed). Out: network
namespaces, links, cgroups and processes; Pods with addresses and conditions, EndpointSlices and cluster
addresses, written back to the store. Not here: policy. The operator, the daemon and the programs are those of
a real cluster; this room only plays what Kubernetes would: scheduler, kubelet, endpoint controller.

    names, addresses, endpoints, plan, notes         what should be, and what is not done (pure)
    manifests, environment, reader                   what a Pod asks of this machine (pure)
    namespaces, network, launch, logs, probes        how one thing is made
    container, pod, node, store, controller          what is made to be
    supervisor                                       the process that holds all of it
    state, teardown                                  what it leaves for others to read, and to remove

The rule: a name on the machine (namespace, cgroup, pin, file) follows from the cluster's name and is written
down before the thing is made, so that `weft local down` finds it whoever died in between.
"""
