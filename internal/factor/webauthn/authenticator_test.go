package webauthn

import (
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"testing"

	"github.com/fxamacker/cbor/v2"
)

// Flags of authenticator data (WebAuthn, section 6.1).
const (
	up = 0x01
	uv = 0x04
	be = 0x08
	bs = 0x10
	at = 0x40
	ed = 0x80
)

// token is an authenticator and the browser that it is plugged into, in software: ES256 alone. What it does wrong is said in its
// fields, and all else is right.
type token struct {
	t       testing.TB
	key     *ecdsa.PrivateKey
	id      []byte
	handle  []byte
	rpID    string
	counter uint32

	origin      string
	flags       byte
	typ         string         // of client data; empty: as it should be
	alg         int            // of the key as it says itself; zero: -7
	client      map[string]any // more of client data
	challenge   string         // in place of the one that was asked; empty: that
	badSign     bool
	otherClient bool   // what is signed is over other client data
	kind        string // of the credential; empty: public-key
	extensions  bool   // says more than it was asked for, to browser and server
	behind      []byte // stands behind authenticator data
	badRawID    bool
	otherHandle []byte
	noHandle    bool
	attested    string                     // format; empty: none
	aaguid      []byte                     // empty: zeros
	mangle      func(client []byte) []byte // what becomes of client data; nil: nothing
	rawObject   []byte                     // in place of the attestation object
	drop        string                     // a part of the response
	noKey       bool                       // no attested credential data
	short       bool                       // authenticator data is cut short

	x5c     [][]byte          // certificates of an attestation; nil: the passkey signs it itself
	signer  *ecdsa.PrivateKey // of the attestation; nil: the passkey
	swapped []byte            // AAGUID that is put in after the attestation was signed
}

func newToken(t testing.TB) *token {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id := make([]byte, 24)
	rand.Read(id)
	return &token{t: t, key: key, id: id, origin: "https://hr.example.com", flags: up | uv | be | bs}
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func (k *token) encode(v any) []byte {
	k.t.Helper()
	raw, err := cbor.Marshal(v)
	if err != nil {
		k.t.Fatal(err)
	}
	return raw
}

func (k *token) json(v any) []byte {
	k.t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		k.t.Fatal(err)
	}
	return raw
}

func (k *token) clientData(typ, challenge string) []byte {
	if k.typ != "" {
		typ = k.typ
	}
	if k.challenge != "" {
		challenge = k.challenge
	}
	data := map[string]any{"type": typ, "challenge": challenge, "origin": k.origin}
	for name, value := range k.client {
		data[name] = value
	}
	if k.mangle != nil {
		return k.mangle(k.json(data))
	}
	return k.json(data)
}

func (k *token) authenticatorData(flags byte) []byte {
	hash := sha256.Sum256([]byte(k.rpID))
	if k.short {
		return hash[:]
	}
	if k.extensions {
		flags |= ed
	}
	return binary.BigEndian.AppendUint32(append(hash[:], flags), k.counter)
}

// question is what of the options the token looks at.
type question struct {
	Challenge string `json:"challenge"`
	RPID      string `json:"rpId"`
	RP        struct {
		ID, Name string
	} `json:"rp"`
	User struct {
		ID, Name, DisplayName string
	} `json:"user"`
	UserVerification       string `json:"userVerification"`
	AuthenticatorSelection struct{ UserVerification, ResidentKey string }
	Attestation            string
	Timeout                int
	PubKeyCredParams       []struct{ Alg int }
	AllowCredentials       []struct{ ID string }
	ExcludeCredentials     []struct{ ID string }
}

func (k *token) read(options []byte) question {
	k.t.Helper()
	var q question
	if err := json.Unmarshal(options, &q); err != nil {
		k.t.Fatalf("%v: %s", err, options)
	}
	return q
}

// create answers what navigator.credentials.create was asked.
func (k *token) create(options []byte) string {
	k.t.Helper()
	q := k.read(options)
	if k.rpID == "" {
		k.rpID = q.RP.ID
	}
	handle, err := base64.RawURLEncoding.DecodeString(q.User.ID)
	if err != nil {
		k.t.Fatal(err)
	}
	k.handle = handle
	alg := -7
	if k.alg != 0 {
		alg = k.alg
	}
	point, err := k.key.PublicKey.Bytes()
	if err != nil {
		k.t.Fatal(err)
	}
	public := k.encode(map[int]any{1: 2, 3: alg, -1: 1, -2: point[1:33], -3: point[33:]})
	auth := k.authenticatorData(k.flags | at)
	if k.aaguid == nil {
		k.aaguid = make([]byte, 16)
	}
	auth = append(auth, k.aaguid...)
	auth = binary.BigEndian.AppendUint16(auth, uint16(len(k.id)))
	auth = append(append(auth, k.id...), public...)
	if k.noKey {
		auth = k.authenticatorData(k.flags)
	}
	auth = k.end(auth)
	client := k.clientData("webauthn.create", q.Challenge)
	object := map[string]any{"fmt": "none", "attStmt": map[string]any{}, "authData": auth}
	if k.attested != "" {
		statement := map[string]any{"alg": -7, "sig": k.sign(auth, client)}
		if k.signer != nil {
			statement["sig"], statement["x5c"] = signed(k.t, k.signer, auth, client), k.x5c
		}
		object["fmt"], object["attStmt"] = k.attested, statement
	}
	if k.swapped != nil {
		swapped := append([]byte(nil), auth...)
		copy(swapped[37:], k.swapped)
		object["authData"] = swapped
	}
	raw := k.encode(object)
	if k.rawObject != nil {
		raw = k.rawObject
	}
	return k.answer(map[string]any{"clientDataJSON": b64(client), "attestationObject": b64(raw), "transports": []string{"internal", "hybrid"}})
}

// end appends what stands behind the rest of authenticator data.
func (k *token) end(auth []byte) []byte {
	k.t.Helper()
	if k.extensions {
		auth = append(auth, k.encode(map[string]any{"credProtect": 2})...)
	}
	return append(auth, k.behind...)
}

func (k *token) sign(auth, client []byte) []byte {
	k.t.Helper()
	if k.otherClient {
		client = append([]byte(" "), client...)
	}
	hash := sha256.Sum256(client)
	digest := sha256.Sum256(append(append([]byte(nil), auth...), hash[:]...))
	signature, err := k.key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		k.t.Fatal(err)
	}
	if k.badSign {
		signature[len(signature)-1] ^= 1
	}
	return signature
}

// get answers what navigator.credentials.get was asked.
func (k *token) get(options []byte) string {
	k.t.Helper()
	q := k.read(options)
	auth := k.end(k.authenticatorData(k.flags))
	client := k.clientData("webauthn.get", q.Challenge)
	response := map[string]any{"clientDataJSON": b64(client), "authenticatorData": b64(auth), "signature": b64(k.sign(auth, client)), "userHandle": b64(k.handle)}
	if k.otherHandle != nil {
		response["userHandle"] = b64(k.otherHandle)
	}
	if k.noHandle {
		delete(response, "userHandle")
	}
	return k.answer(response)
}

func (k *token) answer(response map[string]any) string {
	delete(response, k.drop)
	raw := k.id
	if k.badRawID {
		raw = []byte("another")
	}
	results := map[string]any{}
	if k.extensions {
		results["credProps"], results["appid"], results["made up"] = map[string]any{"rk": true}, true, []int{1}
	}
	return string(k.json(map[string]any{
		"id": b64(k.id), "rawId": b64(raw), "type": cmp.Or(k.kind, "public-key"), "authenticatorAttachment": "platform", "clientExtensionResults": results, "response": response,
	}))
}
