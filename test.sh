#!/usr/bin/env bash
# Runs the tests of caddy-mfa.
#
#   ./test.sh        everything: installs what is missing, lints, unit tests, integration tests, all with the race detector
#   ./test.sh quick  unit tests that need nothing but Go
#   ./test.sh soak   everything, and what takes long: kills and reloads by the hundred
set -euo pipefail
cd "$(dirname "$0")"

mode=${1:-all}
case $mode in all | quick | soak) ;; *)
	echo "usage: ./test.sh [quick|soak]" >&2
	exit 2
	;;
esac

say() { printf '\n== %s\n' "$*"; }

# Runs go test in a module, and fails if anything was skipped: a skip hides a failure.
gotest() {
	local dir=$1
	shift
	if ! (cd "$dir" && go test -json "$@") >"$work/test.json" 2>"$work/test.err"; then
		show
		echo "FAILED: go test $*" >&2
		exit 1
	fi
	if grep -q '"Action":"skip","Package":"[^"]*","Test"' "$work/test.json"; then
		grep '"Action":"skip","Package":"[^"]*","Test"' "$work/test.json" >&2
		echo "FAILED: these tests were skipped" >&2
		exit 1
	fi
	grep -o '"Action":"pass","Package":"[^"]*","Elapsed":[0-9.]*' "$work/test.json" |
		sed 's/.*"Package":"\([^"]*\)","Elapsed":\(.*\)/ok  \1  \2s/'
}

# Shows what is needed to understand why tests failed, the names of those last.
show() {
	head -c 20000 "$work/test.err" >&2
	tools/failures.py "$work/test.json" >&2 || tail -c 20000 "$work/test.json" >&2
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# A program with the race detector waits for a second when it ends.
export GORACE=atexit_sleep_ms=20

if [ "$mode" = quick ]; then
	say "unit tests"
	# What concerns Redis is tested against a real server only.
	mapfile -t packages < <(go list ./... | grep -v '/store/redis')
	gotest . -skip '^TestRedis' "${packages[@]}"
	exit
fi

say "installing what is missing"
missing=()
need() { command -v "$1" >/dev/null 2>&1 || missing+=("$2"); }
need redis-server redis-server
need slapd slapd
need chromium chromium
need w3m w3m
need curl curl
need git git
need python3 python3-minimal
need npm npm
if [ ${#missing[@]} -gt 0 ]; then
	echo "apt-get install ${missing[*]}"
	sudo=
	[ "$(id -u)" = 0 ] || sudo=sudo
	export DEBIAN_FRONTEND=noninteractive
	# Debian starts servers that it installs. The tests start their own.
	policy=/usr/sbin/policy-rc.d
	if [ "$(id -u)" = 0 ] && [ ! -e $policy ]; then
		printf '#!/bin/sh\nexit 101\n' >$policy
		chmod +x $policy
		trap 'rm -rf "$work" /usr/sbin/policy-rc.d' EXIT
	fi
	$sudo apt-get update -q >"$work/apt.log" 2>&1 || { cat "$work/apt.log" >&2; exit 1; }
	$sudo apt-get install -y --no-install-recommends "${missing[@]}" >>"$work/apt.log" 2>&1 || { cat "$work/apt.log" >&2; exit 1; }
fi
(cd integration && npm ci --no-audit --no-fund --silent)

say "lint"
go build -C tools -o "$work/staticcheck" honnef.co/go/tools/cmd/staticcheck
unformatted=$(gofmt -l .)
if [ -n "$unformatted" ]; then
	printf 'not formatted with gofmt:\n%s\n' "$unformatted" >&2
	exit 1
fi
for dir in . integration; do
	(cd $dir && go vet ./... && "$work/staticcheck" ./...)
done

say "unit tests"
gotest . -race ./...

say "integration tests"
go build -race -o "$work/caddy-mfa" ./cmd/caddy-mfa
export CADDY_MFA_BINARY=$work/caddy-mfa
if [ "$mode" = soak ]; then
	export CADDY_MFA_SOAK=1
	gotest integration -race -count=1 -parallel 4 -timeout 4h ./...
else
	# Most of them wait most of the time: for the next code of an app, for a page, for what ends.
	gotest integration -race -count=1 -parallel 4 -timeout 40m ./...
fi

say "all passed"
