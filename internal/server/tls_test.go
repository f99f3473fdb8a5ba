package server

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// writePair makes a certificate of a name, and returns it.
func writePair(t *testing.T, dir, name string) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// TestCertificates reads a pair anew when it has changed, and keeps the one before where the
// new one is none.
func TestCertificates(t *testing.T) {
	dir := t.TempDir()
	first := writePair(t, dir, "first")
	var logs bytes.Buffer
	now := time.Now()
	c := &certificates{
		certificate: filepath.Join(dir, "cert.pem"), key: filepath.Join(dir, "key.pem"),
		logger: slog.New(slog.NewTextHandler(&logs, nil)), now: func() time.Time { return now },
	}
	if err := c.read(); err != nil {
		t.Fatal(err)
	}
	has := func(want *x509.Certificate) {
		t.Helper()
		pair, err := c.get(nil)
		if err != nil || !bytes.Equal(pair.Certificate[0], want.Raw) {
			t.Errorf("it is another certificate, or %v", err)
		}
	}
	has(first)
	second := writePair(t, dir, "second-and-longer")
	has(first) // a second is not over
	now = now.Add(time.Second)
	has(second)
	if err := os.WriteFile(filepath.Join(dir, "key.pem"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Second)
	has(second)
	if !strings.Contains(logs.String(), "the certificate that was in force stays") {
		t.Error(logs.String())
	}
	third := writePair(t, dir, "third")
	now = now.Add(time.Second)
	has(third)
	if err := os.Remove(filepath.Join(dir, "cert.pem")); err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Second)
	has(third)
	if _, err := TLSFiles(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "cert.pem") {
		t.Errorf("%v", err)
	}
}
