package caddymodule

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// readMakers reads the certificates of the makers of security keys who are believed; nil if there is no such setting. A folder is read
// one level deep, its files that end in .pem, .crt or .cer.
func (a *App) readMakers() (*x509.CertPool, error) {
	if a.Factor.WebAuthn == nil || a.Factor.WebAuthn.AttestationRoots == "" {
		return nil, nil
	}
	path := a.Factor.WebAuthn.AttestationRoots
	files := []string{path}
	info, err := os.Stat(path)
	if err == nil && info.IsDir() {
		if files, err = filepath.Glob(filepath.Join(path, "*")); err == nil {
			files = slices.DeleteFunc(files, func(f string) bool {
				return !slices.Contains([]string{".pem", ".crt", ".cer"}, strings.ToLower(filepath.Ext(f)))
			})
		}
	}
	if err != nil {
		return nil, fmt.Errorf("attestation_roots: %w", err)
	}
	pool, found := x509.NewCertPool(), 0
	var mistakes []error
	for _, file := range files {
		n, err := addMakers(pool, file)
		if err != nil {
			mistakes = append(mistakes, fmt.Errorf("attestation_roots %s: %w", file, err))
		}
		found += n
	}
	if found == 0 && len(mistakes) == 0 {
		mistakes = append(mistakes, fmt.Errorf("attestation_roots %s: there is no certificate; put the makers' root certificates there, in PEM, as .pem, .crt or .cer", path))
	}
	return pool, errors.Join(mistakes...)
}

func addMakers(pool *x509.CertPool, file string) (n int, err error) {
	rest, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return n, fmt.Errorf("it holds a %s, and should hold certificates alone", block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return n, err
		}
		pool.AddCert(cert)
		n++
	}
	if n == 0 {
		return 0, errors.New("it holds no certificate in PEM")
	}
	return n, nil
}
