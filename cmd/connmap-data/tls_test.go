package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// overTLS serves a site by HTTPS with a certificate for a host and a time, and has a tool
// take it for the servers of all data sets. The tool trusts who has signed, if it is to.
func overTLS(t *testing.T, s *site, to *tool, host string, until time.Time, trusted bool) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: until.Add(-48 * time.Hour), NotAfter: until,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true,
	}, &x509.Certificate{SerialNumber: big.NewInt(1)}, key.Public(), key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	over := httptest.NewUnstartedServer(s)
	over.EnableHTTP2 = true
	over.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	over.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that fail
	over.StartTLS()
	t.Cleanup(over.Close)
	roots := x509.NewCertPool()
	if trusted {
		roots.AddCert(cert)
	}
	to.network.client = func() *http.Client {
		client := newClient()
		transport := client.Transport.(*http.Transport)
		transport.TLSClientConfig = &tls.Config{RootCAs: roots}
		transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, over.Listener.Addr().String())
		}
		return client
	}
}

// TestCertificates: nothing is taken from who cannot prove to be the data set's server, and
// that is not tried again.
func TestCertificates(t *testing.T) {
	soon, past := time.Now().Add(24*time.Hour), time.Now().Add(-24*time.Hour)
	for _, tt := range []struct {
		name, host string
		until      time.Time
		trusted    bool
		want       string
	}{
		{"as it should be", "iptoasn.com", soon, true, ""},
		{"expired", "iptoasn.com", past, true, "expired"},
		{"not valid yet", "iptoasn.com", time.Now().Add(30 * 24 * time.Hour), true, "not yet valid"},
		{"of another host", "example.com", soon, true, "certificate is valid for example.com, not iptoasn.com"},
		{"of an unknown authority", "iptoasn.com", soon, false, "certificate signed by unknown authority"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, to := full(t), newTool(t)
			s.files["/data/ip2asn-combined.tsv.gz"] = s.files[asnPath]
			overTLS(t, s, to, tt.host, tt.until, tt.trusted)
			err := to.run(t.Context(), []string{"update", "-data", to.dir, "iptoasn"})
			if tt.want == "" {
				require.NoError(t, err, to.err.String())
				assert.Contains(t, to.files(t), "ip2asn-combined.tsv.gz")
				return
			}
			require.Error(t, err)
			assert.Contains(t, to.err.String(), tt.want)
			assert.NotContains(t, to.err.String(), "trying again")
			assert.NotContains(t, to.files(t), "ip2asn-combined.tsv.gz")
			assert.Empty(t, s.seen, "nothing was asked for")
		})
	}
}

// TestHTTP2: the bounds of a download hold by HTTP/2 as by HTTP/1, and what broke goes on.
func TestHTTP2(t *testing.T) {
	for _, tt := range []struct {
		name   string
		behave func(w http.ResponseWriter, r *http.Request, file []byte) bool
		want   string // of its messages; empty: it is downloaded at last
	}{
		{"a stream that is reset", func(w http.ResponseWriter, r *http.Request, file []byte) bool {
			return r.Header.Get("Range") == "" && cut(w, r, file)
		}, ""},
		{"a trickle", func(w http.ResponseWriter, r *http.Request, file []byte) bool {
			tagged(w, file)
			for r.Context().Err() == nil {
				w.Write([]byte{0})
				http.NewResponseController(w).Flush()
				time.Sleep(10 * time.Millisecond)
			}
			return true
		}, "tried 4 times"},
		{"fields without end", func(w http.ResponseWriter, r *http.Request, file []byte) bool {
			for i := range 200 {
				w.Header().Set(fmt.Sprint("X-", i), strings.Repeat("x", 10_000))
			}
			w.WriteHeader(http.StatusOK)
			return true
		}, "tried 4 times"},
		{"a file without end", func(w http.ResponseWriter, r *http.Request, file []byte) bool {
			b := make([]byte, 1<<20)
			for r.Context().Err() == nil {
				if _, err := w.Write(b); err != nil {
					break
				}
			}
			return true
		}, "larger than 5.24 MB"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, to := full(t), newTool(t)
			to.network.stall = time.Second
			for i := range to.sets {
				to.sets[i].limit = 5 << 20
			}
			s.files["/data/ip2asn-combined.tsv.gz"] = s.files[asnPath]
			overTLS(t, s, to, "iptoasn.com", time.Now().Add(time.Hour), true)
			protos := make(chan string, 100)
			s.behave(func(w http.ResponseWriter, r *http.Request, file []byte) bool {
				protos <- r.Proto
				return tt.behave(w, r, file)
			})
			err := to.run(t.Context(), []string{"update", "-data", to.dir, "iptoasn"})
			assert.Equal(t, "HTTP/2.0", <-protos)
			if tt.want == "" {
				require.NoError(t, err, to.err.String())
				assert.Contains(t, to.err.String(), "continuing at ")
				return
			}
			require.Error(t, err)
			assert.Contains(t, to.err.String(), tt.want)
		})
	}
}
