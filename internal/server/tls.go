package server

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// TLSFiles is a TLS configuration whose certificate and key are read from files (PEM), anew
// when either changes, as a client that renews certificates does: connections that are made
// from a second later on have the new one. Where the files that changed are no pair, the one
// before stays, and the logger is told.
func TLSFiles(certificate, key string, logger *slog.Logger) (*tls.Config, error) {
	c := &certificates{certificate: certificate, key: key, logger: logger, now: time.Now}
	if err := c.read(); err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.get}, nil
}

// certificates holds the pair that is in force.
type certificates struct {
	certificate, key string
	logger           *slog.Logger
	now              func() time.Time

	mu      sync.Mutex
	pair    *tls.Certificate
	seen    stamps // of the files that were read last
	checked time.Time
}

// stamps tell files apart from what they were.
type stamps struct{ certificate, key stamp }

type stamp struct {
	modified time.Time
	size     int64
}

func stampOf(path string) (stamp, error) {
	stat, err := os.Stat(path)
	if err != nil {
		return stamp{}, err
	}
	return stamp{stat.ModTime(), stat.Size()}, nil
}

// stamps of the files as they are now.
func (c *certificates) stamps() (s stamps, err error) {
	if s.certificate, err = stampOf(c.certificate); err != nil {
		return s, err
	}
	s.key, err = stampOf(c.key)
	return s, err
}

// read reads the pair. It is called with the lock, or before there are others.
func (c *certificates) read() error {
	seen, err := c.stamps()
	if err != nil {
		return fmt.Errorf("TLS: %w", err)
	}
	c.seen = seen
	pair, err := tls.LoadX509KeyPair(c.certificate, c.key)
	if err != nil {
		return fmt.Errorf("TLS: %s and %s are no pair: %w", c.certificate, c.key, err)
	}
	c.pair = &pair
	return nil
}

// get is the pair in force.
func (c *certificates) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := c.now(); now.Sub(c.checked) >= time.Second {
		c.checked = now
		if seen, err := c.stamps(); err == nil && seen != c.seen {
			if err := c.read(); err != nil {
				c.logger.Error("the certificate that was in force stays", "error", err)
			} else {
				c.logger.Info("the certificate was read anew", "file", c.certificate)
			}
		}
	}
	return c.pair, nil
}
