#!/usr/bin/env bash
# The demo: a cluster on its own data folder, the example application in real containers, and the
# proof that it answers. "up" may be run again and again; "down" leaves no trace.
set -euo pipefail
cd "$(dirname "$0")/../.."

export TROUPE_DATA_DIR=${TROUPE_DEMO_DIR:-/var/lib/troupe-demo}
api=${TROUPE_DEMO_API:-127.0.0.1:6443}
nats=${TROUPE_DEMO_NATS:-127.0.0.1:4222}
troupe=bin/troupe
log=$TROUPE_DATA_DIR/troupe.log
manifests=testkit/example/manifests

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
fail() { printf 'demo: %s\n' "$*" >&2; exit 1; }
kubectl() { "$troupe" kubectl "$@"; }

# wait_for SECONDS WHAT COMMAND...: tries the command until it succeeds.
wait_for() {
	local end=$((SECONDS + $1)) what=$2
	shift 2
	until "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $end ] || { "$@" || true; fail "$what did not happen; see $log"; }
		sleep 0.2
	done
}

# running: is the process that holds the data folder alive?
running() { [ -s "$TROUPE_DATA_DIR/lock" ] && kill -0 "$(cat "$TROUPE_DATA_DIR/lock")" 2>/dev/null; }

up() {
	[ "$(id -u)" = 0 ] || fail "containers need root; run it with sudo"
	if running && kubectl get --raw /readyz >/dev/null 2>&1; then
		say "a cluster runs on $TROUPE_DATA_DIR already"
	else
		say "starting a cluster on $TROUPE_DATA_DIR"
		mkdir -p -m 700 "$TROUPE_DATA_DIR"
		# In a session of its own, so that it outlives this shell.
		setsid "$troupe" up --data-dir "$TROUPE_DATA_DIR" --api-addr "$api" --nats-addr "$nats" >"$log" 2>&1 </dev/null &
		local pid=$!
		until grep -q '^ready in' "$log" 2>/dev/null; do
			kill -0 $pid 2>/dev/null || { cat "$log" >&2; fail "troupe up ended"; }
			sleep 0.1
		done
		cat "$log"
	fi

	say "building and importing the application's image"
	go build -o "$TROUPE_DATA_DIR/web" ./testkit/example/web # the same program asks from the host
	go run ./testkit/example/archive | "$troupe" image import -

	say "applying $manifests/web.yaml"
	kubectl apply -f "$manifests/web.yaml"
	kubectl -n example rollout status deployment/web --timeout=120s
	kubectl -n example get pods -o wide

	local ip port
	ip=$(kubectl -n example get service web -o jsonpath='{.spec.clusterIP}')
	port=$(kubectl -n example get service web -o jsonpath='{.spec.ports[0].nodePort}')
	say "asking through the cluster IP: http://$ip/"
	wait_for 30 "an answer on the cluster IP" fetch "http://$ip/"
	fetch "http://$ip/"
	say "asking through the node port: http://127.0.0.1:$port/"
	wait_for 30 "an answer on the node port" fetch "http://127.0.0.1:$port/"
	fetch "http://127.0.0.1:$port/"
	say "asking from another pod by name: http://web.example.svc.cluster.local/"
	kubectl delete -f "$manifests/client.yaml" --ignore-not-found >/dev/null
	kubectl apply -f "$manifests/client.yaml"
	kubectl -n example wait pod/client --for=jsonpath='{.status.phase}'=Succeeded --timeout=60s >/dev/null
	kubectl -n example logs client

	say "the cluster works; what to try next"
	cat <<-END
	  export KUBECONFIG=$TROUPE_DATA_DIR/kubeconfig TROUPE_DATA_DIR=$TROUPE_DATA_DIR PATH=$PWD/bin:\$PATH
	  troupe kubectl get all -n example
	  troupe kubectl -n example scale deployment/web --replicas=5
	  troupe kubectl -n example logs -l app=web -f
	  troupe kubectl -n example exec deploy/web -- /web get http://localhost:8080/
	  troupe events --since 5m --kind Pod
	  make demo-down
	END
}

# fetch URL prints the answer, which must be the application's own.
fetch() {
	local body
	body=$("$TROUPE_DATA_DIR/web" get "$1") && grep -q "Hello from troupe" <<<"$body" && printf '%s\n' "$body"
}

down() {
	if [ -e "$TROUPE_DATA_DIR/version" ]; then
		"$troupe" reset --yes --data-dir "$TROUPE_DATA_DIR"
	else
		rm -rf "$TROUPE_DATA_DIR"
		echo "no cluster on $TROUPE_DATA_DIR"
	fi
}

case "${1:-}" in
up) up ;;
down) down ;;
*) fail "usage: $0 up|down" ;;
esac
