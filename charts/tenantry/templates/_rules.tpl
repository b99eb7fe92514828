{{/*
What the operator may do in a namespace that it watches, and no more: a test compares it with what the API server's audit
log saw it do. In cluster mode these are the rules of a ClusterRole, otherwise of a Role in each watched namespace.
That the CRDs are served it learns from discovery, which every authenticated user may read (system:discovery).
*/}}
{{- define "tenantry.rules" -}}
# The connections that tenants declare: seen by a watch, read live, never changed.
- apiGroups: [tenantry.dev]
  resources: [tenantconnections]
  verbs: [get, list, watch]
# Their status, under the version that was read.
- apiGroups: [tenantry.dev]
  resources: [tenantconnections/status]
  verbs: [update]
# The builds that tenants declare. patch: the finalizer, the mark of a finished one; delete: after spec.ttlAfterFinished.
- apiGroups: [tenantry.dev]
  resources: [buildrequests]
  verbs: [get, list, watch, patch, delete]
# Their status, under the version that was read.
- apiGroups: [tenantry.dev]
  resources: [buildrequests/status]
  verbs: [update]
# What tenants want fetched, and what a BuildRequest asks for with spec.artifacts: that one is created and kept equal. patch:
# the mark of a finished one.
- apiGroups: [tenantry.dev]
  resources: [artifactfetches]
  verbs: [get, list, watch, create, update, patch]
# Their status, under the version that was read.
- apiGroups: [tenantry.dev]
  resources: [artifactfetches/status]
  verbs: [update]
# Credentials, CA certificates and parameters. The watch sees metadata only; get reads the ones that are referred to.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch]
# Parameters and CA certificates are read; logs and files are stored by server-side apply (create, patch), and removed when
# they are outdated (delete). Only ConfigMaps that one of our objects owns are written.
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, list, watch, create, patch, delete]
# Events about the objects above. Said again, the first is read (get) and counted up (patch).
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, get, patch]
{{- if .Values.fetcher.enabled }}
# Jobs that fetch into volumes (fetcher.enabled): made, followed, and stopped.
- apiGroups: [batch]
  resources: [jobs]
  verbs: [list, watch, create, delete]
# Their pods: how they end, and why they do not start.
- apiGroups: [""]
  resources: [pods]
  verbs: [list]
# The last line of their log is the result.
- apiGroups: [""]
  resources: [pods/log]
  verbs: [get]
# Whether the claim that is named exists (a watch, of metadata only, tells when one is made) and is bound.
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get, list, watch]
{{- end }}
{{- end }}
