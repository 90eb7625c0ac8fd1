module github.com/connmapgo/connmap/geoip/internal/compare

go 1.26.0

require (
	github.com/connmapgo/connmap v0.0.0
	github.com/gaissmai/bart v0.30.0
	github.com/ip2location/ip2location-go/v9 v9.8.0
	github.com/maxmind/mmdbwriter v1.2.0
	github.com/oschwald/maxminddb-golang/v2 v2.9.0
	github.com/osrg/gobgp/v4 v4.8.0
	github.com/phuslu/iploc v1.0.20260915
	github.com/stretchr/testify v1.12.1
)

require (
	github.com/klauspost/compress v1.20.4 // indirect
	github.com/ulikunitz/xz v0.5.17 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	go4.org/netipx v0.0.0-20231129151722-fdeea329fbba // indirect
	golang.org/x/sys v0.50.0 // indirect
	lukechampine.com/uint128 v1.2.0 // indirect
)

replace github.com/connmapgo/connmap => ../../..
