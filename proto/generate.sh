#!/bin/sh
# Generates the Go code of every .proto file beside it. The compiler is Debian's
# protobuf-compiler; the Go plugin is built from the module graph, so that generated code and
# runtime library always have the same version.
set -eu
cd "$(dirname "$0")"
command -v protoc >/dev/null || {
	echo "protoc is missing: apt-get install protobuf-compiler" >&2
	exit 1
}
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
go build -o "$tools/protoc-gen-go" google.golang.org/protobuf/cmd/protoc-gen-go
PATH="$tools:$PATH" protoc -I . --go_out=. --go_opt=paths=source_relative */*.proto
