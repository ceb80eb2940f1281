package machinekey

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"strings"

	"github.com/caddy-mfa/caddy-mfa/internal/seal"
)

// alphabet is Crockford's base 32: no letter in it is taken for a digit or for another letter.
const alphabet = "0123456789abcdefghjkmnpqrstvwxyz"

const (
	idLen     = 8  // characters of an id: 40 bits, no secret
	secretLen = 20 // random characters behind the id of an app password: 100 bits
	tokenLen  = 40 // random characters of a service token: 200 bits
	maxTyped  = 128
)

// letters says which letter of the alphabet a byte stands for: 0: none, 1: it is passed over.
var letters = func() (table [256]byte) {
	for _, c := range []byte(alphabet) {
		table[c] = c
		if 'a' <= c && c <= 'z' {
			table[c-'a'+'A'] = c
		}
	}
	for look, like := range map[byte]byte{'o': '0', 'O': '0', 'i': '1', 'I': '1', 'l': '1', 'L': '1'} {
		table[look] = like
	}
	table[' '], table['-'] = 1, 1
	return table
}()

// random gives n letters of the alphabet.
func random(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails, see crypto/rand
	for i := range b {
		b[i] = alphabet[b[i]%32]
	}
	return string(b)
}

// typed is what somebody shows as a key. Where it can't be one, id is empty, and text is what he has typed.
type typed struct{ id, text string }

// read reads n letters, however they are grouped: people read keys aloud and type them into telephones.
func read(text string, n int) (string, bool) {
	if len(text) > maxTyped {
		return "", false
	}
	b := make([]byte, 0, maxTyped)
	for i := range len(text) {
		switch c := letters[text[i]]; c {
		case 0:
			return "", false
		case 1:
		default:
			b = append(b, c)
		}
	}
	return string(b), len(b) == n
}

// parse reads an app password.
func parse(secret string) typed {
	if text, ok := read(secret, idLen+secretLen); ok {
		return typed{text[:idLen], text}
	}
	return typed{text: secret}
}

// IDOf is the id that an app password would have; false: this can be none.
func IDOf(secret string) (id string, ok bool) {
	id = parse(secret).id
	return id, id != ""
}

// grouped writes letters in groups of four, which can be read aloud.
func grouped(text string) string {
	var b strings.Builder
	for i := range len(text) {
		if i > 0 && i%4 == 0 {
			b.WriteByte('-')
		}
		b.WriteByte(text[i])
	}
	return b.String()
}

// digester makes what is kept of the secrets of one kind of key.
type digester struct {
	purpose string
	keys    [][]byte // newest first
	ids     [][]byte
}

const digestID = 4 // bytes that tell which of the operator's secrets

func newDigester(keys *seal.Keyring, purpose string) *digester {
	return &digester{purpose, keys.Keys("digest of "+purpose, sha256.Size), keys.Keys("id of digest of "+purpose, digestID)}
}

// make makes a digest with the newest secret, of parts that no other list of parts is written as.
func (d *digester) make(parts ...string) []byte {
	return d.sum(d.ids[0][:digestID:digestID], d.keys[0], parts)
}

func (d *digester) sum(to, key []byte, parts []string) []byte {
	mac := hmac.New(sha256.New, key)
	part(mac, d.purpose)
	for _, p := range parts {
		part(mac, p)
	}
	return mac.Sum(to)
}

func part(mac hash.Hash, text string) {
	var length [binary.MaxVarintLen64]byte
	mac.Write(binary.AppendUvarint(length[:0], uint64(len(text))))
	mac.Write([]byte(text))
}

// matches says whether a digest was made of these parts with one of our secrets. An empty digest matches nothing, and costs the same.
func (d *digester) matches(digest []byte, parts ...string) bool {
	i := d.secret(digest)
	known := i >= 0
	if !known {
		i = 0
	}
	return hmac.Equal(d.sum(d.ids[i][:digestID:digestID], d.keys[i], parts), digest) && known
}

// stale says whether a digest was made with another secret than the newest.
func (d *digester) stale(digest []byte) bool { return d.secret(digest) != 0 }

// secret says which secret a digest was made with; -1: none of ours.
func (d *digester) secret(digest []byte) int {
	if len(digest) != digestID+sha256.Size {
		return -1
	}
	for i, id := range d.ids {
		if string(digest[:digestID]) == string(id) {
			return i
		}
	}
	return -1
}
