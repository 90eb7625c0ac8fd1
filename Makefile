# make run and make test need git, make and Go; what else is missing they
# install with apt-get where there is one.

export CGO_ENABLED = 0
VERSION = $(shell git describe --tags --always --dirty 2>/dev/null)
BUILD = go build -trimpath -ldflags='-s -w -X main.version=$(VERSION)'

FUZZTIME = 60s

.PHONY: run build agents test bench soak fuzz generate deps-run deps-test clean

run: deps-run build
	bin/mapserver $(ARGS)

build:
	@mkdir -p bin
	$(BUILD) -o bin/ ./cmd/... ./examples/mapserver

agents:
	@mkdir -p bin
	for p in amd64 arm64 arm riscv64; do GOARM=7 GOOS=linux GOARCH=$$p $(BUILD) -o bin/connmap-agent-linux-$$p ./cmd/connmap-agent || exit 1; done

# The race detector needs cgo; everything else does without. It looks at all that has
# goroutines, and of the history at those tests that have some.
RACE = CGO_ENABLED=1 scripts/with-display go test -race -timeout 12m

test: deps-test
	test -z "$$(gofmt -l .)"
	go vet ./...
	cd conntrack/internal/compare && go vet .
	cd geoip/internal/compare && go vet .
	scripts/analyse
	scripts/with-display go test -timeout 12m ./...
	$(RACE) -short ./conntrack ./conntrack/feed ./examples/mapserver/internal/monitor ./examples/mapserver/internal/sound ./examples/embed ./examples/prometheus ./cmd/connmap-data ./cmd/ip2asn
	$(RACE) -run 'Concurrent|Reader|Beside|Then|WriterDelay|WriterLike|Outlives' ./history ./geoip
	$(RACE) -short -run 'Clerk|Administer|Damaged|Edited|Load' ./examples/mapserver
	$(RACE) -run OnlyWhatChanged ./examples/mapserver/internal/gui
	scripts/fuzz 2000x ./conntrack/feed
	@echo "benchmarks, once"
	go test -short -run '^$$' -bench . -benchtime 1x ./... >/dev/null
	@for p in linux/arm64 linux/arm linux/riscv64; do echo "build $$p"; \
		GOOS=$${p%/*} GOARCH=$${p#*/} go build -o /dev/null ./cmd/connmap-agent || exit 1; done
	@for p in darwin/arm64 windows/amd64; do echo "vet $$p"; \
		GOOS=$${p%/*} GOARCH=$${p#*/} go vet ./conntrack/... ./geoip/... ./asn/... ./rules ./hilbert ./history || exit 1; done

# Writes docs/bench.txt and docs/bench.html, in about ten minutes.
bench: deps-test build
	@scripts/install sqlite3=sqlite3
	scripts/with-display go run ./internal/bench

# Half an hour; writes docs/soak.txt.
soak: deps-test
	CONNMAP_SOAK=30 CONNMAP_SOAK_REPORT=$(CURDIR)/docs/soak.txt scripts/with-display go test -run Soak -v -timeout 60m ./examples/mapserver

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
	@scripts/install Xvfb=xvfb ip=iproute2 ss=iproute2 setpriv=util-linux gcc=gcc,libc6-dev sqlite3=sqlite3

clean:
	rm -rf bin
