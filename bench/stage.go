// This file owns what the end-to-end measurements stand on: the processes, where
// they run, and what they listen on.

package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

// stage is a folder, and how processors are shared out.
type stage struct {
	dir    string
	proxy  []int // processors of what is measured; empty: all are shared
	others []int // of the load and the stand-in
	all    []int
}

// newStage makes the folder. With two processors or more, what is measured has one
// to itself.
func newStage() (*stage, error) {
	dir, err := os.MkdirTemp("", "vllm-gateway-bench")
	if err != nil {
		return nil, err
	}
	s := &stage{dir: dir, all: processors()}
	if len(s.all) > 1 {
		s.proxy, s.others = s.all[:1], s.all[1:]
	}
	return s, nil
}

func (s *stage) close() { _ = os.RemoveAll(s.dir) }

// address is one that nobody listens on.
func address() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("finding a free port: %w", err)
	}
	defer ln.Close()
	return ln.Addr().String(), nil
}

// site finds addresses for a proxy, two of them if it has HTTPS.
func (s *stage) site(secure bool) (site, error) {
	var at site
	var err error
	if at.plain, err = address(); err != nil || !secure {
		return at, err
	}
	at.cert, at.key = filepath.Join(s.dir, "cert.pem"), filepath.Join(s.dir, "key.pem")
	at.secure, err = address()
	return at, err
}

// certificate makes one for 127.0.0.1 that the client trusts, and nobody else.
func (s *stage) certificate() (*tls.Config, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	secret, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	for name, block := range map[string]*pem.Block{
		"cert.pem": {Type: "CERTIFICATE", Bytes: cert},
		"key.pem":  {Type: "EC PRIVATE KEY", Bytes: secret},
	} {
		if err := os.WriteFile(filepath.Join(s.dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			return nil, err
		}
	}
	parsed, err := x509.ParseCertificate(cert)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(parsed)
	return &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}, nil
}

// startProxy starts the gateway or a Caddy.
func (s *stage) startProxy(role, caddyfile string, at site) (*child, target, error) {
	c, err := startChild(s.dir, role, s.proxy, order{Caddyfile: caddyfile})
	if err != nil {
		return nil, target{}, err
	}
	t := target{name: role, pid: c.pid(), plain: &url.URL{Scheme: "http", Host: at.plain}}
	if at.secure != "" {
		t.secure = &url.URL{Scheme: "https", Host: at.secure}
	}
	return c, t, nil
}
