package main

const (
	ns    = "/api/v1/namespaces/replay"
	apps  = "/apis/apps/v1/namespaces/replay"
	batch = "/apis/batch/v1/namespaces/replay"
	rbac  = "/apis/rbac.authorization.k8s.io/v1/namespaces/replay"
	netw  = "/apis/networking.k8s.io/v1/namespaces/replay"

	jsonPatch      = "application/json-patch+json"
	mergePatch     = "application/merge-patch+json"
	strategicPatch = "application/strategic-merge-patch+json"
	applyPatch     = "application/apply-patch+yaml"
)

func post(name, path, body string) step {
	return step{Name: name, Method: "POST", Path: path, ContentType: "application/json", Body: body}
}

func put(name, path, body string) step {
	return step{Name: name, Method: "PUT", Path: path, ContentType: "application/json", Body: body}
}

func patch(name, path, contentType, body string) step {
	return step{Name: name, Method: "PATCH", Path: path, ContentType: contentType, Body: body}
}

func get(name, path string) step { return step{Name: name, Method: "GET", Path: path} }

func del(name, path, body string) step {
	one := step{Name: name, Method: "DELETE", Path: path, Body: body}
	if body != "" {
		one.ContentType = "application/json"
	}
	return one
}

func setup(one step) step {
	one.Setup = true
	return one
}

func (s step) as(user string) step {
	s.User = user
	return s
}

func steps() []step {
	var all []step
	for _, group := range [][]step{
		prepared(), decoding(), routing(), listing(), pods(), workloads(), services(), smallKinds(), policies(),
		metadata(), updates(), patches(), deletes(), access(),
	} {
		all = append(all, group...)
	}
	return all
}

// prepared are the objects that later requests are about.
func prepared() []step {
	template := `{"metadata":{"labels":{"app":"web"}},"spec":{"containers":[{"name":"c","image":"i"}]}}`
	return []step{
		setup(post("namespace", "/api/v1/namespaces", `{"metadata":{"name":"replay"}}`)),
		setup(post("service account", ns+"/serviceaccounts", `{"metadata":{"name":"default"}}`)),
		setup(post("config map", ns+"/configmaps", `{"metadata":{"name":"plain"},"data":{"a":"b"}}`)),
		setup(post("immutable config map", ns+"/configmaps", `{"metadata":{"name":"fixed"},"data":{"a":"b"},"immutable":true}`)),
		setup(post("secret", ns+"/secrets", `{"metadata":{"name":"secret"},"data":{"a":"Yg=="}}`)),
		setup(post("pod", ns+"/pods", `{"metadata":{"name":"pod","labels":{"app":"web"}},"spec":{"containers":[{"name":"c","image":"i"}]}}`)),
		setup(post("service", ns+"/services", `{"metadata":{"name":"web"},"spec":{"selector":{"app":"web"},"ports":[{"port":80}]}}`)),
		setup(post("deployment", apps+"/deployments", `{"metadata":{"name":"web"},"spec":{"selector":{"matchLabels":{"app":"web"}},"template":`+template+`}}`)),
		setup(post("stateful set", apps+"/statefulsets", `{"metadata":{"name":"web"},"spec":{"serviceName":"web","selector":{"matchLabels":{"app":"web"}},"template":`+template+`}}`)),
		setup(post("daemon set", apps+"/daemonsets", `{"metadata":{"name":"web"},"spec":{"selector":{"matchLabels":{"app":"web"}},"template":`+template+`}}`)),
		setup(post("job", batch+"/jobs", `{"metadata":{"name":"job"},"spec":{"template":{"spec":{"restartPolicy":"Never","containers":[{"name":"c","image":"i"}]}}}}`)),
		setup(post("role", rbac+"/roles", `{"metadata":{"name":"role"},"rules":[{"apiGroups":[""],"resources":["pods"],"verbs":["get"]}]}`)),
		setup(post("role binding", rbac+"/rolebindings", `{"metadata":{"name":"binding"},"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"Role","name":"role"},"subjects":[{"kind":"User","name":"u","apiGroup":"rbac.authorization.k8s.io"}]}`)),
		setup(post("claim", ns+"/persistentvolumeclaims", `{"metadata":{"name":"claim"},"spec":{"accessModes":["ReadWriteOnce"],"resources":{"requests":{"storage":"1Gi"}}}}`)),
	}
}

func decoding() []step {
	return []step{
		post("no JSON", ns+"/pods", `{"metadata":`),
		post("no JSON at all", ns+"/pods", `hello`),
		post("an empty body", ns+"/pods", ""),
		post("a list for an object", ns+"/pods", `[]`),
		post("kind is a number", ns+"/pods", `{"kind":5}`),
		post("a string for a list", ns+"/pods", `{"spec":{"containers":"x"}}`),
		post("a string for a number", ns+"/pods", `{"spec":{"containers":[{"name":"c","image":"i","ports":[{"containerPort":"80"}]}]}}`),
		post("a fraction for an integer", apps+"/deployments", `{"metadata":{"name":"x"},"spec":{"replicas":1.5}}`),
		post("a number for a label", ns+"/configmaps", `{"metadata":{"name":"x","labels":{"a":1}}}`),
		post("no quantity", ns+"/pods", `{"metadata":{"name":"x"},"spec":{"containers":[{"name":"c","image":"i","resources":{"limits":{"cpu":"lots"}}}]}}`),
		post("no time", ns+"/pods", `{"metadata":{"name":"x","creationTimestamp":"yesterday"}}`),
		post("no base64", ns+"/secrets", `{"metadata":{"name":"x"},"data":{"a":"!"}}`),
		post("an unknown kind", ns+"/pods", `{"kind":"Foo","apiVersion":"v1","metadata":{"name":"x"}}`),
		post("another kind", ns+"/pods", `{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"x"}}`),
		post("an unknown version", ns+"/pods", `{"kind":"Pod","apiVersion":"v2","metadata":{"name":"x"}}`),
		post("another group's version", apps+"/deployments", `{"kind":"Deployment","apiVersion":"apps/v1beta1","metadata":{"name":"x"}}`),
		post("a malformed version", ns+"/pods", `{"kind":"Pod","apiVersion":"a/b/c","metadata":{"name":"x"}}`),
		post("an unknown field, strictly", ns+"/configmaps?fieldValidation=Strict", `{"metadata":{"name":"x"},"date":{}}`),
		post("repeated fields, strictly", ns+"/configmaps?fieldValidation=Strict", `{"metadata":{"name":"x","name":"y"},"data":{"a":"b","a":"c"}}`),
		post("both in a template, strictly", apps+"/deployments?fieldValidation=Strict", `{"metadata":{"name":"x"},"spec":{"foo":1,"template":{"spec":{"containers":[{"nme":"c","image":"i","image":"j"}]}}}}`),
		post("an unknown field, with a warning", ns+"/configmaps?dryRun=All", `{"metadata":{"name":"x"},"date":{},"data":{"a":"b","a":"c"}}`),
		post("a wrong fieldValidation", ns+"/configmaps?fieldValidation=Maybe", `{"metadata":{"name":"x"}}`),
		post("a wrong dryRun", ns+"/configmaps?dryRun=Some", `{"metadata":{"name":"x"}}`),
		post("a long fieldManager", ns+"/configmaps?fieldManager=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", `{"metadata":{"name":"x"}}`),
		{Name: "a body that is too large", Method: "POST", Path: ns + "/configmaps", ContentType: "application/json", Body: `{"metadata":{"name":"x"}}`, Padding: 3145728},
		{Name: "an unknown content type", Method: "POST", Path: ns + "/configmaps", ContentType: "text/plain", Body: `{"metadata":{"name":"x"}}`},
		{Name: "an unknown answer type", Method: "GET", Path: ns + "/configmaps", Accept: "text/html"},
		{Name: "broken YAML", Method: "POST", Path: ns + "/configmaps", ContentType: "application/yaml", Body: "a: b: c"},
		{Name: "YAML with an unknown field, strictly", Method: "POST", Path: ns + "/configmaps?fieldValidation=Strict", ContentType: "application/yaml", Body: "metadata:\n  name: x\ndate: {}\n"},
	}
}

func routing() []step {
	return []step{
		get("an unknown group", "/apis/nothing.example/v1/things"),
		get("an unknown resource", ns+"/things"),
		get("an unknown subresource", ns+"/pods/pod/thing"),
		get("an unknown version", "/apis/apps/v9/deployments"),
		get("an object that is not there", ns+"/pods/nothing"),
		get("an object of a group that is not there", apps+"/deployments/nothing"),
		get("a cluster's object that is not there", "/api/v1/nodes/nothing"),
		post("create on an object", ns+"/configmaps/plain", `{}`),
		put("replace a collection", ns+"/configmaps", `{}`),
		patch("patch a collection", ns+"/configmaps", mergePatch, `{}`),
		get("read what can only be created", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"),
		{Name: "an odd method", Method: "FOO", Path: ns + "/configmaps"},
		post("create a namespaced kind without a namespace", "/api/v1/configmaps", `{"metadata":{"name":"x"}}`),
		post("another namespace in the body", ns+"/configmaps", `{"metadata":{"name":"x","namespace":"other"}}`),
		post("a namespace that is not there", "/api/v1/namespaces/nowhere/configmaps", `{"metadata":{"name":"x"}}`),
	}
}

func listing() []step {
	list := ns + "/configmaps?"
	return []step{
		get("a broken label selector", list+"labelSelector=a%3D%3D%3Db"),
		get("a label selector with a bad key", list+"labelSelector=-%3Db"),
		get("a label selector with a bad operator", list+"labelSelector=a%20among%20(b)"),
		get("a broken field selector", list+"fieldSelector=metadata.name"),
		get("a field that cannot be selected", list+"fieldSelector=data.a%3Db"),
		get("a pod field that cannot be selected", ns+"/pods?fieldSelector=spec.foo%3Db"),
		get("a limit that is no number", list+"limit=many"),
		get("a negative limit", list+"limit=-1"),
		get("a broken continue token", list+"limit=1&continue=abc"),
		get("a continue token and a version", list+"limit=1&continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MSwic3RhcnQiOiJhXHUwMDAwIn0&resourceVersion=5"),
		get("a version that is no number", list+"resourceVersion=abc"),
		get("a version of the future", list+"resourceVersion=999999999&resourceVersionMatch=NotOlderThan"),
		get("a match without a version", list+"resourceVersionMatch=Exact"),
		get("an unknown match", list+"resourceVersion=1&resourceVersionMatch=Roughly"),
		get("exactly version 0", list+"resourceVersion=0&resourceVersionMatch=Exact"),
		get("initial events of a list", list+"sendInitialEvents=true"),
		get("initial events without a match", list+"watch=true&sendInitialEvents=true"),
		get("a match for a watch", list+"watch=true&resourceVersion=1&resourceVersionMatch=NotOlderThan"),
		get("a watch from no number", list+"watch=true&resourceVersion=abc"),
		get("an unknown includeObject", list+"includeObject=Some"),
		{Name: "a table with an unknown includeObject", Method: "GET", Path: list + "includeObject=Some", Accept: "application/json;as=Table;v=v1;g=meta.k8s.io"},
		get("a version of an object that is no number", ns+"/configmaps/plain?resourceVersion=abc"),
	}
}

func pod(spec string) string { return `{"metadata":{"name":"x"},"spec":` + spec + `}` }

func container(more string) string {
	return pod(`{"containers":[{"name":"c","image":"i"` + more + `}]}`)
}

func pods() []step {
	path := ns + "/pods"
	return []step{
		post("a pod without containers", path, pod(`{}`)),
		post("a pod without a name", path, `{"spec":{"containers":[{"name":"c","image":"i"}]}}`),
		post("a pod with a bad name", path, `{"metadata":{"name":"Not_Good"},"spec":{"containers":[{"name":"c","image":"i"}]}}`),
		post("many mistakes", path, pod(`{"restartPolicy":"Sometimes","dnsPolicy":"Magic","terminationGracePeriodSeconds":-1,"activeDeadlineSeconds":0,"containers":[{"name":"","image":""},{"name":"UP","image":" i","imagePullPolicy":"Perhaps","terminationMessagePolicy":"None"}]}`)),
		post("repeated containers and ports", path, pod(`{"containers":[{"name":"c","image":"i","ports":[{"containerPort":80,"name":"p"},{"containerPort":0,"name":"p"},{"containerPort":70000,"protocol":"ICMP","hostPort":-1}]},{"name":"c","image":"i"}]}`)),
		post("a request above its limit", path, container(`,"resources":{"limits":{"cpu":"1","memory":"-1"},"requests":{"cpu":"2","example.com/x":"1.5"}}`)),
		post("mounts of nothing", path, container(`,"volumeMounts":[{"name":"v","mountPath":"/a"},{"name":"v","mountPath":"/a"},{"name":"w","mountPath":""}]`)),
		post("volumes of two sources and of none", path, pod(`{"volumes":[{"name":"a","emptyDir":{},"hostPath":{"path":"/x"}},{"name":"a"},{"name":"B!","configMap":{}},{"name":"h","hostPath":{"path":"../x","type":"Odd"}}],"containers":[{"name":"c","image":"i"}]}`)),
		post("bad environment", path, container(`,"env":[{"name":"","value":"x"},{"name":"A=B"},{"name":"C","value":"x","valueFrom":{"fieldRef":{"fieldPath":"spec.nothing"}}},{"name":"D","valueFrom":{}},{"name":"E","valueFrom":{"fieldRef":{"fieldPath":"spec.nothing"}}},{"name":"F","valueFrom":{"configMapKeyRef":{"key":""}}}]`)),
		post("bad probes", path, container(`,"livenessProbe":{},"readinessProbe":{"httpGet":{"path":"","port":0},"timeoutSeconds":-1,"periodSeconds":-1},"startupProbe":{"tcpSocket":{"port":"no such port name"},"exec":{"command":["a"]}}`)),
		post("bad hooks", path, container(`,"lifecycle":{"postStart":{},"preStop":{"exec":{"command":[]}}}`)),
		post("host ports that differ", path, pod(`{"hostNetwork":true,"containers":[{"name":"c","image":"i","ports":[{"containerPort":80,"hostPort":81}]}]}`)),
		post("bad tolerations", path, pod(`{"tolerations":[{"operator":"Exists","value":"x"},{"key":"a b","operator":"Equal"},{"operator":"Near","key":"a"},{"key":"a","effect":"Sometimes"},{"key":"a","operator":"Exists","effect":"NoSchedule","tolerationSeconds":5}],"containers":[{"name":"c","image":"i"}]}`)),
		post("bad affinity", path, pod(`{"affinity":{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[]},"preferredDuringSchedulingIgnoredDuringExecution":[{"weight":101,"preference":{"matchExpressions":[{"key":"a","operator":"Near"},{"key":"b","operator":"In"}]}}]},"podAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":[{"topologyKey":""}]}},"containers":[{"name":"c","image":"i"}]}`)),
		post("bad spread constraints", path, pod(`{"topologySpreadConstraints":[{"maxSkew":0,"topologyKey":"","whenUnsatisfiable":"Cry"},{"maxSkew":1,"topologyKey":"a","whenUnsatisfiable":"DoNotSchedule","minDomains":0}],"containers":[{"name":"c","image":"i"}]}`)),
		post("bad security", path, pod(`{"securityContext":{"runAsUser":-1,"fsGroup":-5,"sysctls":[{"name":"A b","value":"1"}]},"containers":[{"name":"c","image":"i","securityContext":{"privileged":true,"allowPrivilegeEscalation":false,"capabilities":{"add":["CAP_X"]}}}]}`)),
		post("bad DNS and hosts", path, pod(`{"dnsPolicy":"None","hostname":"A.b","subdomain":"-","hostAliases":[{"ip":"1.2.3","hostnames":["A!"]}],"containers":[{"name":"c","image":"i"}]}`)),
		post("bad init containers", path, pod(`{"initContainers":[{"name":"c","image":"i","restartPolicy":"Never"},{"name":"d","image":"i","readinessProbe":{"exec":{"command":["a"]}}}],"containers":[{"name":"c","image":"i"}]}`)),
		post("ephemeral containers at once", path, pod(`{"ephemeralContainers":[{"name":"e","image":"i"}],"containers":[{"name":"c","image":"i"}]}`)),
		post("a priority class that is not there", path, pod(`{"priorityClassName":"nothing","containers":[{"name":"c","image":"i"}]}`)),
		post("a service account that is not there", path, pod(`{"serviceAccountName":"nothing","containers":[{"name":"c","image":"i"}]}`)),
		post("a node that is bound at once, badly", path, pod(`{"nodeName":"A b","nodeSelector":{"a b":"c d"},"schedulerName":"S!","containers":[{"name":"c","image":"i"}]}`)),
		post("an eviction of nothing", ns+"/pods/nothing/eviction", `{"metadata":{"name":"nothing"}}`),
		post("an eviction of another name", ns+"/pods/pod/eviction", `{"metadata":{"name":"other"}}`),
		post("a binding without a target", ns+"/pods/pod/binding", `{"metadata":{"name":"pod"},"target":{"kind":"Node"}}`),
		post("a binding of nothing", ns+"/pods/nothing/binding", `{"metadata":{"name":"nothing"},"target":{"kind":"Node","name":"n"}}`),
		get("logs of nothing", ns+"/pods/nothing/log"),
		get("logs of no such container", ns+"/pods/pod/log?container=nothing"),
		get("logs with bad options", ns+"/pods/pod/log?tailLines=-1&sinceSeconds=0"),
		post("exec without a stream", ns+"/pods/pod/exec?command=ls", ""),
	}
}

func workloads() []step {
	good := `{"metadata":{"labels":{"app":"x"}},"spec":{"containers":[{"name":"c","image":"i"}]}}`
	return []step{
		post("an empty deployment", apps+"/deployments", `{"metadata":{"name":"x"}}`),
		post("a selector that matches nothing", apps+"/deployments", `{"metadata":{"name":"x"},"spec":{"selector":{"matchLabels":{"app":"y"}},"template":`+good+`}}`),
		post("a bad strategy", apps+"/deployments", `{"metadata":{"name":"x"},"spec":{"replicas":-1,"minReadySeconds":-1,"revisionHistoryLimit":-1,"progressDeadlineSeconds":0,"strategy":{"type":"RollingUpdate","rollingUpdate":{"maxSurge":0,"maxUnavailable":"0%"}},"selector":{"matchLabels":{"app":"x"}},"template":`+good+`}}`),
		post("percentages that are none", apps+"/deployments", `{"metadata":{"name":"x"},"spec":{"strategy":{"rollingUpdate":{"maxSurge":"a%","maxUnavailable":"101%"}},"selector":{"matchLabels":{"app":"x"}},"template":`+good+`}}`),
		post("recreate with a rolling update", apps+"/deployments", `{"metadata":{"name":"x"},"spec":{"strategy":{"type":"Recreate","rollingUpdate":{}},"selector":{"matchLabels":{"app":"x"}},"template":`+good+`}}`),
		post("a bad selector", apps+"/deployments", `{"metadata":{"name":"x"},"spec":{"selector":{"matchExpressions":[{"key":"a","operator":"In"},{"key":"b","operator":"Exists","values":["c"]},{"key":"-","operator":"Near"}]},"template":`+good+`}}`),
		post("a template that ends", apps+"/deployments", `{"metadata":{"name":"x"},"spec":{"selector":{"matchLabels":{"app":"x"}},"template":{"metadata":{"labels":{"app":"x"}},"spec":{"restartPolicy":"Never","activeDeadlineSeconds":5,"containers":[]}}}}`),
		post("a bad replica set", apps+"/replicasets", `{"metadata":{"name":"x"},"spec":{"replicas":-3,"selector":{},"template":`+good+`}}`),
		post("a bad stateful set", apps+"/statefulsets", `{"metadata":{"name":"x"},"spec":{"podManagementPolicy":"Odd","updateStrategy":{"type":"Odd"},"selector":{"matchLabels":{"app":"x"}},"template":`+good+`}}`),
		post("a bad daemon set", apps+"/daemonsets", `{"metadata":{"name":"x"},"spec":{"updateStrategy":{"type":"RollingUpdate","rollingUpdate":{"maxUnavailable":0,"maxSurge":0}},"selector":{"matchLabels":{"app":"x"}},"template":`+good+`}}`),
		post("a bad job", batch+"/jobs", `{"metadata":{"name":"x"},"spec":{"completions":-1,"parallelism":-1,"backoffLimit":-1,"activeDeadlineSeconds":-1,"ttlSecondsAfterFinished":-1,"template":{"spec":{"containers":[{"name":"c","image":"i"}]}}}}`),
		post("a job with a selector of its own", batch+"/jobs", `{"metadata":{"name":"x"},"spec":{"selector":{"matchLabels":{"a":"b"}},"template":{"spec":{"restartPolicy":"Never","containers":[{"name":"c","image":"i"}]}}}}`),
		post("a bad cron job", batch+"/cronjobs", `{"metadata":{"name":"x"},"spec":{"schedule":"often","timeZone":"Nowhere/Land","concurrencyPolicy":"Odd","successfulJobsHistoryLimit":-1,"jobTemplate":{"spec":{"template":{"spec":{"restartPolicy":"Always","containers":[{"name":"c","image":"i"}]}}}}}}`),
		put("a negative scale", apps+"/deployments/web/scale", `{"metadata":{"name":"web","namespace":"replay"},"spec":{"replicas":-1}}`),
		put("a scale of nothing", apps+"/deployments/nothing/scale", `{"metadata":{"name":"nothing","namespace":"replay"},"spec":{"replicas":1}}`),
		put("a scale of an old version", apps+"/deployments/web/scale", `{"metadata":{"name":"web","namespace":"replay","resourceVersion":"1"},"spec":{"replicas":1}}`),
	}
}

func services() []step {
	path := ns + "/services"
	service := func(spec string) string { return `{"metadata":{"name":"x"},"spec":` + spec + `}` }
	return []step{
		post("a service without ports", path, service(`{"selector":{"a":"b"}}`)),
		post("a service with a bad name", path, `{"metadata":{"name":"1.x"},"spec":{"ports":[{"port":80}]}}`),
		post("a bad type", path, service(`{"type":"Magic","sessionAffinity":"Often","externalTrafficPolicy":"Near","ports":[{"port":80}]}`)),
		post("bad ports", path, service(`{"ports":[{"port":0},{"port":80,"name":"A","protocol":"ICMP"},{"port":80,"name":"A","targetPort":"no_port"},{"port":70000,"name":"b","targetPort":70000}]}`)),
		post("repeated ports", path, service(`{"ports":[{"port":80,"name":"a"},{"port":80,"name":"b"}]}`)),
		post("a node port of another type", path, service(`{"ports":[{"port":80,"nodePort":30080}]}`)),
		post("a node port out of range", path, service(`{"type":"NodePort","ports":[{"port":80,"nodePort":80}]}`)),
		post("an address that is none", path, service(`{"clusterIP":"1.2.3","ports":[{"port":80}]}`)),
		post("an address out of range", path, service(`{"clusterIP":"10.1.2.3","ports":[{"port":80}]}`)),
		post("an address that is taken", path, service(`{"clusterIP":"10.96.0.1","ports":[{"port":80}]}`)),
		post("an external name of nothing", path, service(`{"type":"ExternalName"}`)),
		post("a headless node port", path, service(`{"type":"NodePort","clusterIP":"None","ports":[{"port":80}]}`)),
		post("external addresses", path, service(`{"externalIPs":["127.0.0.1","x"],"loadBalancerSourceRanges":["1.2.3.4"],"ports":[{"port":80}]}`)),
		post("a health port of another type", path, service(`{"healthCheckNodePort":30090,"externalTrafficPolicy":"Local","ports":[{"port":80}]}`)),
		post("families that are none", path, service(`{"ipFamilies":["IPv5"],"ipFamilyPolicy":"Odd","ports":[{"port":80}]}`)),
		patch("another cluster address", path+"/web", mergePatch, `{"spec":{"clusterIP":"10.96.9.9","clusterIPs":["10.96.9.9"]}}`),
		patch("no cluster address", path+"/web", mergePatch, `{"spec":{"clusterIP":"None"}}`),
	}
}

func smallKinds() []step {
	return []step{
		post("a config map with bad keys", ns+"/configmaps", `{"metadata":{"name":"x"},"data":{"a b":"c","..":"d","dup":"e"},"binaryData":{"dup":"Yg=="}}`),
		patch("a change of an immutable config map", ns+"/configmaps/fixed", mergePatch, `{"data":{"a":"c"}}`),
		patch("an immutable config map made mutable", ns+"/configmaps/fixed", mergePatch, `{"immutable":null}`),
		post("a secret without its keys", ns+"/secrets", `{"metadata":{"name":"x"},"type":"kubernetes.io/tls"}`),
		post("a secret with a bad key", ns+"/secrets", `{"metadata":{"name":"x"},"data":{"a/b":"Yg=="}}`),
		post("a docker secret of nothing", ns+"/secrets", `{"metadata":{"name":"x"},"type":"kubernetes.io/dockerconfigjson","data":{".dockerconfigjson":"Yg=="}}`),
		patch("another type of a secret", ns+"/secrets/secret", mergePatch, `{"type":"other"}`),
		post("a namespace with a bad name", "/api/v1/namespaces", `{"metadata":{"name":"A.b"}}`),
		post("a claim of nothing", ns+"/persistentvolumeclaims", `{"metadata":{"name":"x"},"spec":{}}`),
		post("a bad claim", ns+"/persistentvolumeclaims", `{"metadata":{"name":"x"},"spec":{"accessModes":["Often"],"storageClassName":"A!","resources":{"requests":{"storage":"0"}}}}`),
		patch("another size of an unbound claim", ns+"/persistentvolumeclaims/claim", mergePatch, `{"spec":{"accessModes":["ReadWriteMany"]}}`),
		post("a volume without a source", "/api/v1/persistentvolumes", `{"metadata":{"name":"x"},"spec":{"accessModes":["ReadWriteOnce"]}}`),
		post("a storage class without a provisioner", "/apis/storage.k8s.io/v1/storageclasses", `{"metadata":{"name":"x"},"reclaimPolicy":"Odd","volumeBindingMode":"Odd"}`),
		post("a bad limit range", ns+"/limitranges", `{"metadata":{"name":"x"},"spec":{"limits":[{"type":"Container","min":{"cpu":"2"},"max":{"cpu":"1"}}]}}`),
		post("a bad quota", ns+"/resourcequotas", `{"metadata":{"name":"x"},"spec":{"hard":{"pods":"-1","cpu":"1.5"},"scopes":["Odd"]}}`),
		post("a bad endpoint slice", "/apis/discovery.k8s.io/v1/namespaces/replay/endpointslices", `{"metadata":{"name":"x"},"addressType":"IPv4","endpoints":[{"addresses":["::1"]},{"addresses":[]}],"ports":[{"name":"A!","port":0,"protocol":"ICMP"}]}`),
		post("bad endpoints", ns+"/endpoints", `{"metadata":{"name":"x"},"subsets":[{"addresses":[{"ip":"127.0.0.1"},{"ip":"x"}],"ports":[{"port":0}]}]}`),
		post("a bad node", "/api/v1/nodes", `{"metadata":{"name":"x"},"spec":{"podCIDRs":["1.2.3.4/99"],"taints":[{"key":"","effect":"Odd"},{"key":"a","effect":"NoSchedule"},{"key":"a","effect":"NoSchedule"}]}}`),
		post("a bad lease", "/apis/coordination.k8s.io/v1/namespaces/replay/leases", `{"metadata":{"name":"x"},"spec":{"leaseDurationSeconds":0,"leaseTransitions":-1}}`),
		post("a reserved priority class", "/apis/scheduling.k8s.io/v1/priorityclasses", `{"metadata":{"name":"system-x"},"value":5}`),
		post("a priority class too high", "/apis/scheduling.k8s.io/v1/priorityclasses", `{"metadata":{"name":"x"},"value":1000000001}`),
		post("a bad event", ns+"/events", `{"metadata":{"name":"x"},"involvedObject":{"namespace":"other","kind":"Pod"}}`),
	}
}

func policies() []step {
	roles, bindings := rbac+"/roles", rbac+"/rolebindings"
	return []step{
		post("a role without verbs", roles, `{"metadata":{"name":"x"},"rules":[{"apiGroups":[""],"resources":["pods"]}]}`),
		post("a role of paths", roles, `{"metadata":{"name":"x"},"rules":[{"nonResourceURLs":["/x"],"verbs":["get"]}]}`),
		post("a role of nothing", roles, `{"metadata":{"name":"x"},"rules":[{"verbs":["get"]}]}`),
		post("a binding to nothing", bindings, `{"metadata":{"name":"x"}}`),
		post("a binding with bad subjects", bindings, `{"metadata":{"name":"x"},"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"Role","name":"role"},"subjects":[{"kind":"Robot","name":"r"},{"kind":"ServiceAccount","name":"A!"},{"kind":"User","name":""}]}`),
		put("another role of a binding", bindings+"/binding", `{"metadata":{"name":"binding"},"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"Role","name":"other"}}`),
		post("a network policy with a bad block", netw+"/networkpolicies", `{"metadata":{"name":"x"},"spec":{"podSelector":{},"policyTypes":["Odd"],"ingress":[{"from":[{"ipBlock":{"cidr":"1.2.3"},"podSelector":{}}],"ports":[{"port":0,"protocol":"ICMP"}]}]}}`),
		post("an ingress of nothing", netw+"/ingresses", `{"metadata":{"name":"x"},"spec":{}}`),
		post("a bad ingress", netw+"/ingresses", `{"metadata":{"name":"x"},"spec":{"rules":[{"host":"1.2.3.4","http":{"paths":[{"path":"x","pathType":"Prefix","backend":{}},{"path":"/a","backend":{"service":{"name":"a","port":{}}}}]}}]}}`),
		post("a budget of both", "/apis/policy/v1/namespaces/replay/poddisruptionbudgets", `{"metadata":{"name":"x"},"spec":{"minAvailable":1,"maxUnavailable":"200%"}}`),
		post("an autoscaler of nothing", "/apis/autoscaling/v2/namespaces/replay/horizontalpodautoscalers", `{"metadata":{"name":"x"},"spec":{"minReplicas":5,"maxReplicas":2,"scaleTargetRef":{}}}`),
		post("a review of nothing", "/apis/authorization.k8s.io/v1/subjectaccessreviews", `{"spec":{}}`),
		post("a review of both", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", `{"spec":{"resourceAttributes":{"verb":"get"},"nonResourceAttributes":{"path":"/x"}}}`),
		post("a token review without a token", "/apis/authentication.k8s.io/v1/tokenreviews", `{"spec":{}}`),
		post("a token that is too short", ns+"/serviceaccounts/default/token", `{"spec":{"expirationSeconds":5}}`),
		post("a token of nothing", ns+"/serviceaccounts/nothing/token", `{"spec":{}}`),
		post("a bad signing request", "/apis/certificates.k8s.io/v1/certificatesigningrequests", `{"metadata":{"name":"x"},"spec":{"request":"Yg==","signerName":"x","usages":["odd"]}}`),
	}
}

func metadata() []step {
	path := ns + "/configmaps"
	object := func(metadata string) string { return `{"metadata":` + metadata + `}` }
	return []step{
		post("bad labels and annotations", path, object(`{"name":"x","labels":{"a b":"c","d":"e f","/g":"h"},"annotations":{"A b":"c"}}`)),
		post("bad finalizers", path, object(`{"name":"x","finalizers":["plain","a b/c"]}`)),
		post("bad owners", path, object(`{"name":"x","ownerReferences":[{"apiVersion":"","kind":"","name":"","uid":""},{"apiVersion":"v1","kind":"Event","name":"a","uid":"1"},{"apiVersion":"v1","kind":"Pod","name":"a","uid":"1","controller":true},{"apiVersion":"v1","kind":"Pod","name":"b","uid":"2","controller":true}]}`)),
		post("no name", path, object(`{}`)),
		post("a bad name start", path, object(`{"generateName":"A b"}`)),
		post("a name that is too long", path, object(`{"name":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}`)),
		post("a version at creation", path, object(`{"name":"x","resourceVersion":"5"}`)),
		post("bad managed fields", path, object(`{"name":"x","managedFields":[{"manager":"m","operation":"Odd","fieldsType":"FieldsV2"}]}`)),
		post("a name that is taken", path, object(`{"name":"plain"}`)),
	}
}

func updates() []step {
	template := `{"metadata":{"labels":{"app":"other"}},"spec":{"containers":[{"name":"c","image":"i"}]}}`
	return []step{
		put("an update of nothing", apps+"/deployments/nothing", `{"metadata":{"name":"nothing"},"spec":{"selector":{"matchLabels":{"app":"other"}},"template":`+template+`}}`),
		put("another name than the path's", ns+"/configmaps/plain", `{"metadata":{"name":"other"}}`),
		put("no name", ns+"/configmaps/plain", `{"metadata":{}}`),
		put("an old version", ns+"/configmaps/plain", `{"metadata":{"name":"plain","resourceVersion":"1"}}`),
		put("a version that is no number", ns+"/configmaps/plain", `{"metadata":{"name":"plain","resourceVersion":"abc"}}`),
		put("another uid", ns+"/configmaps/plain", `{"metadata":{"name":"plain","uid":"1-2-3"}}`),
		put("another selector", apps+"/deployments/web", `{"metadata":{"name":"web"},"spec":{"selector":{"matchLabels":{"app":"other"}},"template":`+template+`}}`),
		put("another selector of a daemon set", apps+"/daemonsets/web", `{"metadata":{"name":"web"},"spec":{"selector":{"matchLabels":{"app":"other"}},"template":`+template+`}}`),
		patch("a service of a stateful set", apps+"/statefulsets/web", mergePatch, `{"spec":{"serviceName":"other","podManagementPolicy":"Parallel"}}`),
		patch("another template of a job", batch+"/jobs/job", mergePatch, `{"spec":{"completions":5,"template":{"metadata":{"labels":{"x":"y"}}}}}`),
		patch("another command of a pod", ns+"/pods/pod", strategicPatch, `{"spec":{"containers":[{"name":"c","command":["x"]}]}}`),
		patch("another container of a pod", ns+"/pods/pod", strategicPatch, `{"spec":{"containers":[{"name":"d","image":"i"}]}}`),
		patch("a toleration that goes", ns+"/pods/pod", mergePatch, `{"spec":{"tolerations":[]}}`),
		patch("no lease without a version", "/apis/coordination.k8s.io/v1/namespaces/replay/leases/nothing", mergePatch, `{"spec":{}}`),
		put("a lease without a version", "/apis/coordination.k8s.io/v1/namespaces/replay/leases/nothing", `{"metadata":{"name":"nothing"},"spec":{}}`),
		put("a lease without a version, again", "/apis/coordination.k8s.io/v1/namespaces/replay/leases/nothing", `{"metadata":{"name":"nothing","labels":{"a":"b"}},"spec":{}}`),
	}
}

func patches() []step {
	plain := ns + "/configmaps/plain"
	return []step{
		patch("an unknown patch type", plain, "application/json", `{}`),
		patch("a patch of nothing", ns+"/configmaps/nothing", mergePatch, `{}`),
		patch("a merge patch that is no JSON", plain, mergePatch, `{"data":`),
		patch("a merge patch that is a list", plain, mergePatch, `[]`),
		patch("a merge patch with a wrong type", plain, mergePatch, `{"data":5}`),
		patch("a merge patch with an unknown field, strictly", plain+"?fieldValidation=Strict", mergePatch, `{"date":{}}`),
		patch("a merge patch of the name", plain, mergePatch, `{"metadata":{"name":"other"}}`),
		patch("a merge patch of the kind", plain, mergePatch, `{"kind":"Secret"}`),
		patch("a merge patch with an old version", plain, mergePatch, `{"metadata":{"resourceVersion":"1"}}`),
		patch("a merge patch with another uid", plain, mergePatch, `{"metadata":{"uid":"1-2-3"}}`),
		patch("a JSON patch that is an object", plain, jsonPatch, `{}`),
		patch("a JSON patch that is no JSON", plain, jsonPatch, `[{"op":`),
		patch("a JSON patch whose test fails", plain, jsonPatch, `[{"op":"test","path":"/data/a","value":"x"}]`),
		patch("a JSON patch of a missing path", plain, jsonPatch, `[{"op":"remove","path":"/data/zzz"}]`),
		patch("a JSON patch of an unknown operation", plain, jsonPatch, `[{"op":"fly","path":"/data/a"}]`),
		patch("a JSON patch with an unknown field, strictly", plain+"?fieldValidation=Strict", jsonPatch, `[{"op":"add","path":"/data/b","value":"c","foo":"bar"}]`),
		patch("a JSON patch that breaks the object", plain, jsonPatch, `[{"op":"replace","path":"/data","value":"x"}]`),
		patch("a strategic patch without a merge key", ns+"/pods/pod", strategicPatch, `{"spec":{"containers":[{"image":"j"}]}}`),
		patch("a strategic patch with an unknown directive", ns+"/pods/pod", strategicPatch, `{"spec":{"$patch":"odd"}}`),
		patch("a strategic patch with a wrong type", ns+"/pods/pod", strategicPatch, `{"spec":{"containers":"x"}}`),
		patch("a strategic patch with another wrong type", plain, strategicPatch, `{"data":{"a":5}}`),
		patch("a strategic patch with an unknown field, strictly", ns+"/pods/pod?fieldValidation=Strict", strategicPatch, `{"spec":{"foo":"bar","containers":[{"name":"c","zoo":1}]}}`),
		patch("a strategic patch with bad retained keys", ns+"/pods/pod", strategicPatch, `{"spec":{"$retainKeys":"x"}}`),
		patch("force without apply", plain+"?force=true", mergePatch, `{}`),
		patch("a patch that makes the object invalid", apps+"/deployments/web", mergePatch, `{"spec":{"replicas":-1}}`),
		patch("apply without a manager", plain, applyPatch, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"plain"}}`),
	}
}

func deletes() []step {
	plain := ns + "/configmaps/plain"
	return []step{
		del("a deletion of nothing", ns+"/configmaps/nothing", ""),
		del("another uid", plain, `{"preconditions":{"uid":"1-2-3"}}`),
		del("another version", plain, `{"preconditions":{"resourceVersion":"1"}}`),
		del("both policies", plain, `{"orphanDependents":true,"propagationPolicy":"Foreground"}`),
		del("an unknown policy", plain, `{"propagationPolicy":"Sideways"}`),
		del("an unknown policy in the query", plain+"?propagationPolicy=Sideways", ""),
		del("a body of another kind", plain, `{"kind":"ConfigMap","apiVersion":"v1"}`),
		del("a body that is no JSON", plain, `{"kind"`),
		del("a wrong dryRun", plain+"?dryRun=Some", ""),
		del("a grace period that is no number", plain+"?gracePeriodSeconds=long", ""),
		del("the default namespace", "/api/v1/namespaces/default", ""),
		del("all of a kind, by a broken selector", ns+"/configmaps?labelSelector=a%3D%3D%3Db", ""),
		del("every namespace", "/api/v1/namespaces", ""),
		setup(del("the deletion of the namespace", "/api/v1/namespaces/replay", "")),
		post("an object in a namespace that ends", ns+"/configmaps", `{"metadata":{"name":"late"}}`),
		put("finalizers of a namespace, with an old version", "/api/v1/namespaces/replay/finalize", `{"metadata":{"name":"replay","resourceVersion":"1"},"spec":{"finalizers":[]}}`),
	}
}

func access() []step {
	impersonated := func(name, path, user string, one step) step {
		one.Name, one.Path, one.Impersonate = name, path, user
		return one
	}
	return []step{
		get("a token that is none", ns+"/configmaps").as("nonsense"),
		get("a list without the right", ns+"/configmaps").as("jane"),
		get("an object without the right", ns+"/configmaps/plain").as("jane"),
		get("nodes without the right", "/api/v1/nodes").as("jane"),
		get("a path without the right", "/metrics").as("jane"),
		get("logs without the right", ns+"/pods/pod/log").as("jane"),
		post("a creation without the right", apps+"/deployments", `{}`).as("jane"),
		del("a deletion of all without the right", ns+"/configmaps", "").as("jane"),
		impersonated("another user without the right", ns+"/configmaps", "other", get("", "").as("jane")),
		impersonated("another user with fewer rights", ns+"/configmaps", "other", get("", "")),
	}
}
