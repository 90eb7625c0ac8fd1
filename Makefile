# make run and make test need git, make and Go; what else is missing they
# install with apt-get where there is one.

export CGO_ENABLED = 0
VERSION = $(shell git describe --tags --always --dirty 2>/dev/null)
# The version comes from git if that answers; where the clone is somebody else's it does not.
BUILD = go build -buildvcs=false -trimpath -ldflags='-s -w -X main.version=$(VERSION)'

FUZZTIME = 60s
PROVETIME = 1h

.PHONY: run build agents test test-busy test-windows bench soak storms adversary prove fuzz generate deps-run deps-test clean

run: deps-run build
	bin/mapserver $(ARGS)

build:
	@command -v go >/dev/null || { echo "Go 1.26 or later is needed, and not found"; exit 1; }
	@mkdir -p bin
	$(BUILD) -o bin/ ./cmd/... ./examples/mapserver

agents:
	@mkdir -p bin
	for p in amd64 arm64 arm riscv64; do GOARM=7 GOOS=linux GOARCH=$$p $(BUILD) -o bin/connmap-agent-linux-$$p ./cmd/connmap-agent || exit 1; done
	for p in amd64 arm64; do GOOS=windows GOARCH=$$p $(BUILD) -o bin/connmap-agent-windows-$$p.exe ./cmd/connmap-agent || exit 1; done
	for p in amd64 arm64; do GOOS=darwin GOARCH=$$p $(BUILD) -o bin/connmap-agent-darwin-$$p ./cmd/connmap-agent || exit 1; done

test: deps-test
	scripts/check

# Likewise while other programs want the processors.
test-busy: deps-test
	scripts/busy scripts/check

# Writes docs/bench.txt and docs/bench.html, in about ten minutes.
bench: deps-test build
	@scripts/install sqlite3=sqlite3
	scripts/with-display go run ./internal/bench

# Half an hour; writes docs/soak.txt.
soak: deps-test
	CONNMAP_SOAK=30 CONNMAP_SOAK_REPORT=$(CURDIR)/docs/soak.txt scripts/with-display go test -run Soak -v -timeout 60m ./examples/mapserver

# The agent's memory and time while others open flows as fast as they can; five minutes.
storms: deps-test
	CONNMAP_STORMS=1 go test -count=1 -run Storms -v -timeout 20m ./cmd/connmap-agent

# An hour of connections that open and end unseen, faster than they can be told, beside
# busy loops: all is told or counted, and nothing stays.
adversary: deps-test
	CONNMAP_ADVERSARY=1h go test -count=1 -run Adversary -v -timeout 90m ./conntrack

# The agent for Windows under wine, for which this installs 1.3 GB in a minute; two minutes.
test-windows:
	@scripts/install /usr/lib/wine/wine64=wine64 x86_64-w64-mingw32-gcc=gcc-mingw-w64-x86-64
	go test -count=1 -run Windows -v -timeout 20m ./cmd/connmap-agent

# Thousands of simulated worlds, a thousand kills and a day of traffic, then an hour of faults
# that befall real programs: each connection is recorded once, or counted as lost.
prove: deps-test
	CONNMAP_WORLDS=3000 go test -count=1 -run Simulation -v -timeout 60m ./conntrack/feed
	CONNMAP_LONG=1 go test -count=1 -run '^Test(Day|Kill)$$' -v -timeout 60m ./examples/mapserver ./history/sqlite
	CONNMAP_PROVE=$(PROVETIME) go test -count=1 -run Prove -v -timeout 24h ./examples/mapserver

# What it finds it adds to testdata/fuzz, and make test tries that from then on.
fuzz:
	scripts/fuzz $(FUZZTIME) ./...

# Compiles the programs for the kernel anew; only after a change of theirs.
generate:
	@scripts/install clang=clang llvm-strip=llvm /usr/include/bpf/bpf_helpers.h=libbpf-dev
	go generate ./conntrack/...

deps-run:
	@scripts/install libX11.so.6=libx11-6 libGL.so.1=libgl1

deps-test: deps-run
	@scripts/install Xvfb=xvfb setxkbmap=x11-xkb-utils xdotool=xdotool xclip=xclip ip=iproute2 ss=iproute2 iptables=iptables setpriv=util-linux gcc=gcc,libc6-dev sqlite3=sqlite3 dnsmasq=dnsmasq-base dig=bind9-dnsutils curl=curl chromium=chromium

clean:
	rm -rf bin
