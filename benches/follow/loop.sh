#!/usr/bin/env bash
# What tenants have instead of tenantry: logs in, starts a build, asks every ten seconds whether it is over, and brings home
# its log and its files. Goes on when a request fails.
#   loop.sh GATEWAY PROJECT PIPELINE USER PASSWORD FOLDER NAME=VALUE…
# Says `started RUN` and, when all is home, `done MILLISECONDS-SINCE-THE-EPOCH RESULT`.
set -uo pipefail
gateway=$1 project=$2 pipeline=$3 user=$4 password=$5 folder=$6
shift 6
v2=$gateway/kapis/devops.kubesphere.io/v1alpha2/namespaces/$project
v3=$gateway/kapis/devops.kubesphere.io/v1alpha3/namespaces/$project
mkdir -p "$folder"

ask() { curl --silent --show-error --fail --max-time 60 --header "Authorization: Bearer $token" "$@"; }

token=
until [ -n "$token" ]; do
    token=$(curl --silent --show-error --fail --max-time 60 "$gateway/oauth/token" --data-urlencode "username=$user" \
        --data-urlencode "password=$password" --data grant_type=password --data client_id=kubesphere \
        --data client_secret=kubesphere | jq --raw-output '.access_token // empty') || true
    [ -n "$token" ] || sleep 10
done

body=$(printf '%s\n' "$@" | jq --raw-input --slurp --compact-output \
    '{parameters: [split("\n")[] | select(. != "") | capture("^(?<name>[^=]+)=(?<value>.*)$")]}')
run=
until [ -n "$run" ]; do
    run=$(ask --header 'Content-Type: application/json' --data "$body" "$v3/pipelines/$pipeline/pipelineruns" |
        jq --raw-output '.metadata.name // empty') || true
    [ -n "$run" ] || sleep 10
done
echo "started $run"

while :; do
    sleep 10
    seen=$(ask "$v3/pipelineruns/$run") || continue
    completed=$(jq --raw-output '.status.completionTime // empty' <<<"$seen") || continue
    [ -z "$completed" ] || break
done
number=$(jq --raw-output '.metadata.annotations["devops.kubesphere.io/jenkins-pipelinerun-id"]' <<<"$seen")
result=$(jq --raw-output '.metadata.annotations["devops.kubesphere.io/jenkins-pipelinerun-status"] | fromjson | .result' <<<"$seen")

until ask --output "$folder/log" "$v2/pipelines/$pipeline/runs/$number/log/?start=0"; do sleep 10; done
until files=$(ask "$v2/pipelines/$pipeline/runs/$number/artifacts/?start=0&limit=100"); do sleep 10; done
jq --raw-output '.[].path' <<<"$files" | while read -r path; do
    until ask --create-dirs --output "$folder/$path" --get --data-urlencode "filename=$path" "$v3/pipelineruns/$run/artifacts/download"; do
        sleep 10
    done
done
echo "done $(date +%s%3N) $result"
