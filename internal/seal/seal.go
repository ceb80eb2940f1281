// Package seal encrypts what is kept or handed out, and binds it to its purpose and its owner: a record that is moved
// to another user, or a token that is used in another place, does not open.
//
// One secret of the operator serves everything. A key for each use is derived from it with HKDF (RFC 5869), and used
// with XChaCha20-Poly1305, whose nonces are long enough to be drawn at random however often a key is used.
package seal

import (
	"bytes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"
)

// MinSecret is the length of the shortest secret, in bytes.
const MinSecret = 32

// ErrOpen says that a text was not sealed for this purpose and owner with one of our secrets, or was altered.
var ErrOpen = errors.New("sealed text does not open")

// Keyring holds the operator's secrets, the newest first. What is sealed is sealed with the newest, and opened with
// whichever it was sealed with.
type Keyring struct{ secrets [][]byte }

// NewKeyring takes the secrets, the newest first: at least one, each of at least MinSecret bytes.
func NewKeyring(secrets ...[]byte) (*Keyring, error) {
	if len(secrets) == 0 {
		return nil, errors.New("no secret")
	}
	for i, s := range secrets {
		if len(s) < MinSecret {
			return nil, fmt.Errorf("secret %d has %d bytes; it must have at least %d", i+1, len(s), MinSecret)
		}
		for j := range i {
			if bytes.Equal(s, secrets[j]) {
				return nil, fmt.Errorf("secrets %d and %d are the same", j+1, i+1)
			}
		}
	}
	return &Keyring{secrets}, nil
}

// Keys derives a key of size bytes for the purpose from each secret, the newest first.
func (k *Keyring) Keys(purpose string, size int) [][]byte {
	keys := make([][]byte, len(k.secrets))
	for i, s := range k.secrets {
		key, err := hkdf.Key(sha256.New, s, nil, "caddy-mfa "+purpose, size)
		if err != nil { // only for sizes that no caller asks for
			panic(err)
		}
		keys[i] = key
	}
	return keys
}

// Sealer seals for one purpose. It is safe for concurrent use.
type Sealer struct {
	purpose string
	keys    []sealKey // newest first
}

type sealKey struct {
	id   [keyIDSize]byte
	aead cipher.AEAD
}

const (
	format    = 1 // first byte of everything sealed
	keyIDSize = 4 // tells which secret, so that opening is one decryption
	header    = 1 + keyIDSize + chacha20poly1305.NonceSizeX
)

// Overhead is how many bytes longer a sealed text is than the plain one.
const Overhead = header + chacha20poly1305.Overhead

// Sealer gives the sealer for a purpose: a constant name, different for each use.
func (k *Keyring) Sealer(purpose string) *Sealer {
	s := &Sealer{purpose: purpose}
	ids := k.Keys("id of "+purpose, keyIDSize)
	for i, key := range k.Keys("key for "+purpose, chacha20poly1305.KeySize) {
		aead, err := chacha20poly1305.NewX(key)
		if err != nil { // only for a key of another size
			panic(err)
		}
		s.keys = append(s.keys, sealKey{[keyIDSize]byte(ids[i]), aead})
	}
	return s
}

// Seal encrypts plaintext for an owner: whatever names whose it is, in as many parts as it takes.
func (s *Sealer) Seal(plaintext []byte, owner ...string) []byte {
	key := s.keys[0]
	sealed := make([]byte, header, header+len(plaintext)+chacha20poly1305.Overhead)
	sealed[0] = format
	copy(sealed[1:], key.id[:])
	nonce := sealed[1+keyIDSize : header]
	rand.Read(nonce) // never fails, see crypto/rand
	return key.aead.Seal(sealed, nonce, plaintext, s.bind(owner))
}

// Open decrypts what Seal made for the same purpose and owner. The error is ErrOpen.
func (s *Sealer) Open(sealed []byte, owner ...string) ([]byte, error) {
	if len(sealed) < Overhead || sealed[0] != format {
		return nil, ErrOpen
	}
	id := [keyIDSize]byte(sealed[1 : 1+keyIDSize])
	for _, key := range s.keys {
		if key.id != id {
			continue
		}
		if plaintext, err := key.aead.Open(nil, sealed[1+keyIDSize:header], sealed[header:], s.bind(owner)); err == nil {
			return plaintext, nil
		}
	}
	return nil, ErrOpen
}

// Stale says whether a text was sealed with another secret than the newest.
func (s *Sealer) Stale(sealed []byte) bool {
	return len(sealed) < Overhead || [keyIDSize]byte(sealed[1:1+keyIDSize]) != s.keys[0].id
}

// bind writes purpose and owner so that no two lists of parts are written alike.
func (s *Sealer) bind(owner []string) []byte {
	data := make([]byte, 0, 128)
	data = binary.AppendUvarint(data, uint64(len(s.purpose)))
	data = append(data, s.purpose...)
	for _, part := range owner {
		data = binary.AppendUvarint(data, uint64(len(part)))
		data = append(data, part...)
	}
	return data
}
